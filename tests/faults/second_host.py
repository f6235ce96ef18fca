"""A second machine, as far as one machine can be two: a network namespace, a directory and a checkout of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.product import PROJECT, Product, children, descendants, free_port, running, until
from workers.targets.process.target import stop_all

CHECKOUT = ("apps", "controlplane", "workers", "templates", "static", "Makefile", "manage.py", "requirements.lock")


def checkout(folder: Path) -> Path:
    """A copy of this one, so that what is changed here meanwhile is not half of a version. It shares .venv."""
    folder.mkdir()
    for name in CHECKOUT:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return folder


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Wire:
    """Two ends of a cable: one on this machine, one in a namespace."""

    def __init__(self) -> None:
        number = os.getpid() % 60_000
        self.namespace, self.here_end = f"windlass-{number}", f"wdl{number}"
        net = f"10.{200 + number // 256 % 50}.{number % 256}"
        self.here, self.there = f"{net}.1", f"{net}.2"
        ip("netns", "add", self.namespace)
        ip("link", "add", self.here_end, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("addr", "add", f"{self.here}/24", "dev", self.here_end)
        ip("link", "set", self.here_end, "up")
        for words in (["addr", "add", f"{self.there}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            ip("-n", self.namespace, *words)
        ip("-n", self.namespace, "link", "set", "lo", "up")

    def cut(self) -> None:
        ip("link", "set", self.here_end, "down")

    def mend(self) -> None:
        ip("link", "set", self.here_end, "up")

    def remove(self) -> None:
        ip("netns", "del", self.namespace)


class SecondHost:
    """`make host` in the namespace."""

    def __init__(self, folder: Path, wire: Wire) -> None:
        folder.mkdir()
        self.wire = wire
        self.project = checkout(folder / "checkout")
        self.var, self.output = folder / "var", folder / "output"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: str = "make host") -> None:
        """Begin it; `command` is what the main machine printed, the first time."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        settings = {"WINDLASS_VAR": str(self.var), "WINDLASS_PORT": str(self.port), "WINDLASS_HOST_CPUS": "4"}
        self.output.write_bytes(b"")
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.wire.namespace, *command.split()],
                cwd=self.project,
                env={**kept, **settings},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def joined(self) -> None:
        def ready() -> bool:
            assert self.process and self.process.poll() is None, self.said
            return "takes work from" in self.said

        until(ready, 60, f"make host\n{self.said}")

    @property
    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def kill(self) -> None:
        """SIGKILL to make host and all that it started, but not to its workloads, which are no children of it."""
        assert self.process
        for pid in descendants(self.process.pid, children()):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            for pid in descendants(self.process.pid, children())[:2]:  # make waits for what it runs
                os.kill(pid, signal.SIGTERM)
            self.process.wait(90)

    def end(self) -> None:
        self.stop()
        if self.var.exists():
            stop_all(self.var / "workloads", 1.0)

    def workloads(self) -> list[str]:
        return sorted(path.name for path in (self.var / "workloads" / "workloads").iterdir())

    def programs(self, module: str) -> dict[tuple[str, str], int]:
        return running(module, self.workloads())


def invite(product: Product, name: str) -> str:
    """The line that `make invite-host` prints."""
    command = ["make", "-s", "invite-host", f"NAME={name}"]
    told = subprocess.run(
        command, cwd=product.project, env=product.environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return told.stdout.strip()
