"""A whole installation, as `make up` starts it, and clients that send predictions and count every answer."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from controlplane.up.record import started_ticks

PROJECT = Path(__file__).resolve().parents[2]
logging.getLogger("httpx").setLevel(logging.WARNING)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], timeout_seconds: float, what: str) -> Any:
    """Wait until it gives something, and return that."""
    ends = time.monotonic() + timeout_seconds
    while True:
        try:
            if found := true():
                return found
        except (httpx.TransportError, OSError):
            pass  # that part is down just now
        assert time.monotonic() < ends, f"not within {timeout_seconds:g} s: {what}"
        time.sleep(0.25)


class Product:
    """An installation below `folder`, with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.var = folder / "var"
        self.output = folder / "output"
        self.port, self.gateway_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.time_scale = 1.0
        self.more: dict[str, object] = {}  # further settings
        self.project = PROJECT
        self.http = httpx.Client(timeout=30, trust_env=False)

    @property
    def environment(self) -> dict[str, str]:
        settings = {
            "VAR": self.var,
            "PORT": self.port,
            "GATEWAY_PORT": self.gateway_port,
            "HOST_CPUS": 4,
            "TIME_SCALE": self.time_scale,
            **self.more,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        return {**kept, **{f"WINDLASS_{name}": str(value) for name, value in settings.items()}}

    def start(self) -> None:
        """`make up`, without waiting for it."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controlplane.up"],
                cwd=self.project,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def up(self) -> None:
        """Wait until `make up`, which is begun here unless it was, says that it runs."""
        if self.process is None:
            self.start()

        def running() -> bool:
            assert self.process and self.process.poll() is None, self.output.read_text()[-3000:]
            record = self.record()
            return bool(record.get("phase") == "running" and record.get("pid") == self.process.pid)

        until(running, 100, "make up")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def record(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.var / "run.json").read_text())
        except (OSError, ValueError):
            return {}
        return content

    def pid(self, name: str) -> int:
        return int(self.record()["processes"][name]["pid"])

    def lives(self, name: str) -> bool:
        return started_ticks(self.pid(name)) is not None

    def kill(self, *names: str) -> None:
        """SIGKILL to these parts and to all that they started, at once."""
        assert all(self.lives(name) for name in names)
        tree = children()
        for pid in [pid for name in names for pid in descendants(self.pid(name), tree)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def workloads(self) -> list[str]:
        return sorted(path.name for path in (self.var / "workloads" / "workloads").iterdir())

    def replicas(self) -> dict[tuple[str, str], int]:
        """The processes that answer, by workload and ordinal."""
        return running("workers.serving", self.workloads())

    # --- the REST API ------------------------------------------------------------------------------------------------
    @property
    def key(self) -> str:
        return str(json.loads((self.var / "credentials.json").read_text())["api_key"])

    def api(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = self.http.request(
            method,
            f"http://127.0.0.1:{self.port}/api/v1/workspaces/default/{path}",
            json=body,
            params=query,
            headers={"authorization": f"Bearer {self.key}"},
        )
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response.json() if response.content else None

    def exports(self) -> list[str]:
        """Two exports that are certified: the first model negates, the second one makes positive."""
        return self.django("from tests.faults.exports import make", "print(make())").split()

    def django(self, *lines: str) -> str:
        """What these lines print when they run beside the product, on its rows."""
        source = "\n".join(("import django", "django.setup()", *lines))
        environment = {**self.environment, "DJANGO_SETTINGS_MODULE": "controlplane.settings"}
        command = [sys.executable, "-c", source]
        return subprocess.run(
            command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def predict(self, key: str, deployment: str = "tiny") -> httpx.Response:
        url = f"http://127.0.0.1:{self.gateway_port}/default/{deployment}/v2/models/tiny/infer"
        return self.http.post(url, json=BODY, headers={"authorization": f"Bearer {key}"})


BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, -2]}]}
ODD, EVEN = [-1.0, 2.0], [1.0, 2.0]  # what a revision of an odd number answers, and what one of an even number does


def running(module: str, workloads: list[str]) -> dict[tuple[str, str], int]:
    """The processes of a program in these workloads, by workload and ordinal."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "cmdline").read_bytes().split(b"\0")[1:3] != [b"-m", module.encode()]:
                continue
            pairs = [item.partition(b"=") for item in (entry / "environ").read_bytes().split(b"\0")]
        except OSError:
            continue
        values = {name.decode(): value.decode() for name, _, value in pairs}
        if values.get("WINDLASS_WORKLOAD") in workloads:
            found[values["WINDLASS_WORKLOAD"], values["WINDLASS_ORDINAL"]] = int(entry.name)
    return found


def children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            found.setdefault(parent, []).append(int(entry.name))
    return found


def descendants(pid: int, tree: dict[int, list[int]]) -> list[int]:
    return [pid, *(below for child in tree.get(pid, []) for below in descendants(child, tree))]


@dataclass
class Answers:
    """What came back. `errors`: when (time.monotonic()) and what, for all that was no right answer."""

    sent: int = 0
    good: int = 0
    revisions: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[float, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return round(1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)], 1)


class Load:
    """Sends predictions at a steady rate over kept connections, from a thread, until `end`; a context manager.

    A request goes out when it is due, or as soon as one of `clients` is free: there are never more than that in flight.
    """

    def __init__(self, product: Product, rate: float = 200, clients: int = 64) -> None:
        self.port, self.rate, self.clients = product.gateway_port, rate, clients
        self.answers = Answers()
        self.began = time.monotonic()
        self.seconds = 0.0
        self._stop = threading.Event()
        body = json.dumps(BODY).encode()
        head = "POST /default/tiny/v2/models/tiny/infer HTTP/1.1\r\nhost: gateway\r\n"
        head += f"authorization: Bearer {product.key}\r\ncontent-type: application/json\r\n"
        self._request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self.began
        self._stop.set()
        self._thread.join(60)

    def until(self, seconds: float) -> None:
        """Wait until it has been sending for that long."""
        time.sleep(max(0.0, self.began + seconds - time.monotonic()))

    async def _send(self) -> None:
        self.began = time.monotonic()
        await asyncio.gather(*(self._client() for _ in range(self.clients)))

    async def _client(self) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        answers = self.answers
        while True:
            number, answers.sent = answers.sent, answers.sent + 1
            due = self.began + number / self.rate
            while not self._stop.is_set() and (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(min(wait, 0.2))
            if self._stop.is_set():
                answers.sent -= 1
                break
            began = time.monotonic()
            try:
                streams = streams or await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), 10)
                streams[1].write(self._request)
                self._count(*await asyncio.wait_for(_answer(streams[0]), 60))
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                answers.errors.append((time.monotonic(), repr(error)))
                if streams:
                    streams[1].close()
                streams = None
            answers.seconds.append(time.monotonic() - began)
        if streams:
            streams[1].close()

    def _count(self, head: bytes, body: bytes) -> None:
        status = head.split(b" ", 2)[1]
        revision = head.partition(b"x-windlass-revision: ")[2].partition(b"\r")[0].decode()
        if status == b"200":
            data = json.loads(body)["outputs"][0]["data"]
            if data == (ODD if int(revision) % 2 else EVEN):
                self.answers.good += 1
                self.answers.revisions[revision] += 1
                return
        self.answers.errors.append((time.monotonic(), f"{status.decode()} r{revision} {body[:300]!r}"))


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)
