"""A host of each test's own; whatever a test leaves running is ended behind it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.placements.observation import Observed
from apps.placements.workload import Input, Output, Probe, Resources, Workload
from apps.registry import parts
from workers.targets.contract import Grants, InputGrant, OutputGrant
from workers.targets.process import cage, processes
from workers.targets.process.target import ProcessTarget, stop_all

SERVER = """
import os, signal, socket, sys
listener = socket.socket(fileno=int(os.environ["WINDLASS_LISTEN_FD"]))
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    broken = os.path.exists(os.environ["WINDLASS_LIVE"] + "/broken")
    body = b"%d %s" % (os.getpid(), os.environ["WINDLASS_ORDINAL"].encode())
    status = b"503 Broken" if broken else b"200 OK"
    connection.sendall(b"HTTP/1.1 %s\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (status, len(body), body))
    connection.close()
"""


class Host:
    """A process target with what a test of it needs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.target = ProcessTarget(directory / "host", allow_uncaged=True)
        self.key = parts.new_data_key()

    def job(self, script: str, name: str = "job", **fields: Any) -> Workload:
        """A job of a small Python script (without the site packages, so that it starts fast)."""
        fields.setdefault("grace_seconds", 5.0)
        return Workload(name, "job", ("python", "-S", "-c", script), **fields)

    def service(self, name: str = "service", script: str = SERVER, **fields: Any) -> Workload:
        fields.setdefault("probe", Probe("/v2/health/ready", period_seconds=0.1, timeout_seconds=1.0))
        fields.setdefault("grace_seconds", 1.0)
        return Workload(name, "service", ("python", "-S", "-c", script), ports=("http",), **fields)

    def apply(self, workload: Workload, generation: int = 1, grants: Grants | None = None, **secrets: bytes) -> None:
        self.target.apply(None, workload, generation, secrets, grants or Grants())

    def seen(self, name: str) -> Observed:
        return self.target.observe(None).get(name, Observed("gone"))

    def wait(self, name: str, wanted: Callable[[Observed], bool], timeout_seconds: float = 15.0) -> Observed:
        deadline = time.monotonic() + timeout_seconds
        while True:
            seen = self.seen(name)
            if wanted(seen):
                return seen
            assert time.monotonic() < deadline, f"{name} is {seen}"
            time.sleep(0.01)

    def ended(self, name: str = "job", timeout_seconds: float = 15.0) -> Observed:
        return self.wait(name, lambda seen: seen.state == "exited", timeout_seconds)

    def run(self, script: str, grants: Grants | None = None, **fields: Any) -> Observed:
        self.apply(self.job(script, **fields), grants=grants)
        return self.ended()

    def log(self, name: str = "job", stream: str = "0") -> str:
        return self.target.logs(None, name, stream, 0, 64 * 1024**2).data.decode(errors="replace")

    def said(self, name: str = "job", text: str = "ready", timeout_seconds: float = 10.0) -> str:
        """Wait until a line holds this text; gives the log."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            if self.path(name, "logs/0.log").exists() and text in (log := self.log(name)):
                return log
            assert time.monotonic() < deadline, f"{name} never said {text!r}"
            time.sleep(0.01)

    def path(self, name: str, inner: str = "") -> Path:
        return self.directory / "host" / "workloads" / name / inner

    def shim(self, name: str) -> int:
        return self.target._files(name).shim_pid()

    def processes(self, name: str) -> list[int]:
        """Everything that carries the workload's mark, programs and cages alike."""
        return processes.marked(processes.mark_of(self.path(name)))

    def stored(self, blob: str, content: bytes) -> InputGrant:
        """A blob with this content, in sealed parts."""
        folder = self.directory / "blobs" / blob
        folder.mkdir(parents=True)
        for number in range(parts.part_count(len(content))):
            plain = content[number * parts.PART_BYTES : (number + 1) * parts.PART_BYTES]
            (folder / str(number)).write_bytes(parts.seal(self.key, blob, number, plain))
        return InputGrant(
            blob, self.key, tuple(str(folder / str(number)) for number in range(parts.part_count(len(content))))
        )

    def input(self, name: str, content: bytes, **fields: Any) -> tuple[Input, InputGrant]:
        blob = f"blob-{name}"
        item = Input(name, blob, hashlib.sha256(content).hexdigest(), len(content), **fields)
        return item, self.stored(blob, content)

    def output(self, name: str, **fields: Any) -> tuple[Output, OutputGrant]:
        blob = f"out-{name}"
        return Output(name, blob, **fields), OutputGrant(blob, self.key, str(self.directory / "blobs" / blob))

    def content(self, grant: OutputGrant) -> bytes:
        """The plain content of what was carried out."""
        files = sorted(Path(grant.directory).iterdir(), key=lambda path: int(path.name))
        return b"".join(
            parts.unseal(self.key, grant.blob, number, file.read_bytes()) for number, file in enumerate(files)
        )


def ask(port: int) -> tuple[int, int]:
    """(process id inside its cage, ordinal) of the replica that answers. Raises OSError where none does."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = b""
        while data := connection.recv(4096):
            received += data
    pid, ordinal = received.rpartition(b"\r\n")[2].split()
    return int(pid), int(ordinal)


@pytest.fixture(params=["caged", "uncaged"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Run the test twice: in cages, and as on a machine without bubblewrap."""
    if request.param == "uncaged":
        without_cage(monkeypatch, tmp_path)
    elif not cage.caged():
        pytest.skip(cage.describe())
    return str(request.param)


@pytest.fixture
def caged() -> None:
    if not cage.caged():
        pytest.skip(cage.describe())


@pytest.fixture
def uncaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_cage(monkeypatch, tmp_path)


def without_cage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    stop_all(made.directory / "host", 0.0, storing_seconds=2.0)
    for name in os.listdir(made.directory / "host" / "workloads"):
        assert not made.processes(name), f"{name} left processes behind"


@pytest.fixture
def resources() -> Callable[..., Resources]:
    return lambda **fields: dataclasses.replace(Resources(), **fields)
