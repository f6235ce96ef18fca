"""A real Envoy and small real replicas, for the tests and the benchmark of the gateway."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from workers.gateway.applied import applied
from workers.gateway.bootstrap import envoy_command, write_bootstrap
from workers.gateway.model import Backend, Configuration, Endpoint, Route
from workers.gateway.write import write


class Upstream:
    """One replica in a process of its own. `held`: we keep its listening socket open, as the shim does."""

    def __init__(self, name: str, held: bool = False) -> None:
        self.name = name
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.endpoint = Endpoint("127.0.0.1", self.socket.getsockname()[1])
        self.start()
        # As a replica is listed only when it is ready; connections wait in the socket until it is.
        assert httpx.get(f"http://127.0.0.1:{self.endpoint.port}/count", timeout=30).status_code == 200
        if not held:
            self.socket.close()

    def start(self) -> None:
        program = Path(__file__).with_name("upstream.py")
        fd = self.socket.fileno()
        self.process = subprocess.Popen([sys.executable, "-S", program, self.name, str(fd)], pass_fds=[fd])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def revive(self) -> None:
        """On the same port, which nobody held meanwhile."""
        self.socket = socket.create_server(("127.0.0.1", self.endpoint.port), backlog=1024)
        self.start()
        self.socket.close()

    def close(self) -> None:
        self.kill()
        self.socket.close()


class Gateway:
    """A real Envoy over a directory of its own."""

    def __init__(self, directory: Path, access_log: Path | None = None, body_limit_bytes: int = 2**26) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.bootstrap = write_bootstrap(
            directory, "127.0.0.1", self.port, access_log=access_log, body_limit_bytes=body_limit_bytes
        )
        self.log = directory / "envoy.log"
        self.upstreams: list[Upstream] = []

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(envoy_command(self.bootstrap), stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/healthz").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stalled(self, act: Callable[[], object]) -> None:
        """Envoy stands still meanwhile."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            act()
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def upstream(self, name: str, held: bool = False) -> Upstream:
        self.upstreams.append(Upstream(name, held))
        return self.upstreams[-1]

    def write(self, *routes: Route) -> bool:
        return write(self.directory, Configuration(routes))

    def versions(self) -> dict[str, int]:
        return applied(self.directory).versions

    def get(self, path: str, **arguments: object) -> httpx.Response:
        return httpx.request(**{"method": "GET", "url": self.url + path, "timeout": 10, **arguments})

    def exchange(self, request: bytes, length: int) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            answer = b""
            while len(answer) < length and (more := connection.recv(65536)):
                answer += more
            return answer

    def raw(self, path: str) -> httpx.Response:
        """GET exactly this path."""
        request = f"GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n".encode()
        head, body = self.exchange(request, 2**20).split(b"\r\n\r\n", 1)
        return httpx.Response(int(head.split(b" ")[1]), content=body)

    def until(self, holds: Callable[[], bool], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.05)

    def replica(self, deployment: str = "acme/digits") -> str:
        return self.get(f"/{deployment}/v2").json()["replica"]

    def close(self) -> None:
        self.kill()
        for upstream in self.upstreams:
            upstream.close()


def backend(name: str, *upstreams: Upstream, weight: int = 100, replicas: int = 0) -> Backend:
    return Backend(name, weight, tuple(upstream.endpoint for upstream in upstreams), replicas)


def route(*backends: Backend, version: int = 1, deployment: str = "digits", **more: object) -> Route:
    return Route("acme", deployment, version, backends, **more)
