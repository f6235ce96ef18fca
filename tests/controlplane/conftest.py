"""A whole installation of its own for tests of `make up`: its directory, its ports, its processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Installation:
    """Starts `python -m controlplane.up` as `make up` does, and looks at what it says and leaves."""

    def __init__(self, var: Path) -> None:
        self.var, self.port, self.gateway_port = var, free_port(), free_port()
        self.output = var.with_name(f"{var.name}.output")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        settings = {"VAR": self.var, "PORT": self.port, "GATEWAY_PORT": self.gateway_port, "WORKER_CONCURRENCY": 1}
        return {**os.environ, **{f"WINDLASS_{name}": str(value) for name, value in settings.items()}}

    def command(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, "-m", "controlplane.up", *arguments],
            cwd=PROJECT,
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self) -> None:
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "controlplane.up"],
                cwd=PROJECT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 200
        while self.record().get("phase") != "running" or self.record().get("pid") != self.process.pid:
            assert self.process.poll() is None and time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def record(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.var / "run.json").read_text())
        except OSError:
            return {}
        return content

    def pids(self) -> dict[str, int]:
        return {name: entry["pid"] for name, entry in self.record()["processes"].items()}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code


def alive(pid: int) -> bool:
    """Is there such a process, other than as remains that wait to be collected?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(pid: int) -> set[int]:
    """Every process below this one."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found - {pid}


def wait_until(what: Any, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def make_installation(name: str) -> Iterator[Installation]:
    directory = Path(tempfile.mkdtemp(prefix="windlass up "))
    installation = Installation(directory / name)
    try:
        yield installation
    finally:
        if installation.process is not None:
            installation.stop(signal.SIGINT)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def installation() -> Iterator[Installation]:
    yield from make_installation("var")


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    """One that is started once for all tests of a module; its path has spaces."""
    for installation in make_installation("a path with spaces"):
        installation.start()
        yield installation
