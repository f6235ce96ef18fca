"""`python -m workers.serving`: one replica.

It listens at once and answers health checks while the model loads. SIGTERM: not ready, still answering for
WINDLASS_DRAIN_SECONDS so that the gateway can take it from its list; then it closes the listener, finishes what is in
flight and ends with 0.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import uvloop

from workers.serving.app import Application
from workers.serving.engine import Engine, OnnxEngine
from workers.serving.settings import Settings
from workers.serving.signature import BadModel, Signature
from workers.serving.transport import Connection, Server

BUNDLE_SECONDS = 0.5
METRICS_SECONDS = 10.0
BACKLOG = 1024


async def serve(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT, then drains. Raises BadModel when the model can't be served."""
    loop = asyncio.get_running_loop()
    app = Application(settings)
    server = Server(app)
    listener = await loop.create_server(lambda: Connection(server), sock=_listening_socket(settings), backlog=BACKLOG)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    beats = [
        asyncio.create_task(_every(BUNDLE_SECONDS, app.auth.refresh)),
        asyncio.create_task(_every(BUNDLE_SECONDS, server.refresh)),
        asyncio.create_task(_every(METRICS_SECONDS, app.metrics.flush)),
    ]
    stopping = asyncio.create_task(stop.wait())
    loading = asyncio.create_task(asyncio.to_thread(_load, settings))
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        app.signature, app.engine = loading.result()
        # What is there now stays: the collector need not walk it again and again.
        gc.collect()
        gc.freeze()
        seconds = app.engine.load_seconds
        print(f'Revision {settings.revision} of "{settings.model}" is loaded, in {seconds:.2f} s.', flush=True)
        await stopping
    app.draining = True
    print(f"Stopping: answering for {settings.drain_seconds:g} s more, then finishing what is in flight.", flush=True)
    await asyncio.sleep(settings.drain_seconds)
    listener.close()
    # One more turn for requests that have come but were not read, before idle connections are closed.
    await asyncio.sleep(0.05)
    server.drain()
    # Now too, since the end may be a SIGKILL if a client keeps its request open.
    app.metrics.flush()
    while server.connections:
        await asyncio.sleep(0.01)
    for beat in beats:
        beat.cancel()
    app.metrics.flush()
    print("Stopped.", flush=True)


def _load(settings: Settings) -> tuple[Signature, Engine]:
    signature = Signature.read(settings.inputs / "signature.json")
    return signature, OnnxEngine(settings.inputs / "model.onnx", signature, settings.threads)


def _listening_socket(settings: Settings) -> socket.socket:
    if settings.listen_fd is not None:
        return socket.socket(fileno=settings.listen_fd)
    try:
        return socket.create_server(("127.0.0.1", settings.port), backlog=BACKLOG)
    except OSError as error:
        raise BadModel(
            "PortTaken",
            f"Port {settings.port} can't be used: {os.strerror(error.errno or 0)}. Set WINDLASS_PORT to a free one.",
        ) from error


async def _every(seconds: float, beat: Callable[[], None]) -> None:
    while True:
        beat()
        await asyncio.sleep(seconds)


def main() -> int:
    try:
        uvloop.run(serve(Settings.read()))
    except BadModel as error:
        print(error.message, file=sys.stderr, flush=True)
        out = Path(os.environ.get("WINDLASS_OUT", "out"))
        if out.is_dir():
            failure = {"failure": error.failure, "message": error.message}
            (out / "failure.json").write_bytes(orjson.dumps(failure))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
