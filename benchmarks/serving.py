"""Requests a second of a replica against a bare loop: `python -m benchmarks.serving [--seconds 5] [--rounds 3]`.

The bare loop is the least that could answer: uvicorn, one orjson.loads, one array, one run, one orjson.dumps; no key,
no checks, no metrics. Both serve the same small network, in turns, and the medians are compared. Needs `wrk`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.serving.replica import SECRET, Replica, image, running, save

CLIENTS = (1, 16, 64)
PATH = "/v2/models/digits/infer"
BARE = """
import numpy as np, onnxruntime, orjson, os, socket, uvicorn
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
HEADERS = [(b"content-type", b"application/json")]

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (await receive())["body"]
    entry = orjson.loads(body)["inputs"][0]
    feed = np.array(entry["data"], dtype=np.float32).reshape(entry["shape"])
    (logits,) = session.run(["logits"], {"image": feed})
    answer = {"model_name": "digits", "outputs": [
        {"name": "logits", "datatype": "FP32", "shape": logits.shape, "data": logits.ravel()}]}
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    await send({"type": "http.response.start", "status": 200,
                "headers": [*HEADERS, (b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})

# Not fd=: uvicorn takes that for a Unix socket, so that TCP_NODELAY stays off and each answer waits 40 ms.
config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False, lifespan="off")
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(os.environ["FD"]))])
"""


def network(path: Path) -> None:
    """64 -> 64 -> 10, the size of a first model of digits."""
    random = np.random.default_rng(8)
    weights = {"w1": (64, 64), "b1": (64,), "w2": (64, 10), "b2": (10,)}
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
        ],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    save(graph, path)


@contextmanager
def bare(folder: Path, model: Path) -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    process = subprocess.Popen(
        [sys.executable, "-c", BARE],
        env={"MODEL": str(model), "FD": str(listener.fileno()), "OMP_NUM_THREADS": "1"},
        pass_fds=[listener.fileno()],
        cwd=folder,
    )
    try:
        time.sleep(2)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        listener.close()


def cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(") ")[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(url: str, process_id: int, clients: int, seconds: float, script: Path) -> tuple[float, float]:
    """Requests a second, and the server's processor time for each in microseconds."""
    before = cpu_seconds(process_id)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "-s", str(script), url + PATH],
        capture_output=True,
        text=True,
        check=True,
    )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    total = re.search(r"(\d+) requests in", done.stdout)
    if rate is None or total is None:
        raise SystemExit(done.stdout)
    return float(rate[1]), (cpu_seconds(process_id) - before) / int(total[1]) * 1e6


def measure(replica: Replica, plain: tuple[str, int], seconds: float, rounds: int, script: Path) -> None:
    assert replica.process is not None
    servers = {"replica": (replica.url, replica.process.pid), "bare loop": plain}
    figures: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for clients in CLIENTS:
            for name, (url, process_id) in servers.items():
                figures.setdefault((name, clients), []).append(measured(url, process_id, clients, seconds, script))
    print("medians; processor time for each request is the figure that a busy machine spoils least")
    for (name, clients), rounds_measured in sorted(figures.items(), key=lambda item: item[0][1]):
        rate, cost = (statistics.median(values) for values in zip(*rounds_measured, strict=True))
        print(f"{clients:3} clients, {name:9}: {rate:8,.0f} requests/s, {cost:6.1f} us of processor each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "post.lua"
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = [=[{json.dumps(image())}]=]\n'
            f'wrk.headers["Authorization"] = "Bearer {SECRET}"\nwrk.headers["Content-Type"] = "application/json"\n'
        )
        with running(folder, model=network) as replica, bare(folder, folder / "in" / "model.onnx") as plain:
            measure(replica, plain, options.seconds, options.rounds, script)


if __name__ == "__main__":
    main()
