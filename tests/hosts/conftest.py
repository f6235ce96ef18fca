"""A door on the loopback, in front of the test run's own PostgreSQL and a live web server."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.clusters.joining import Invited, invite_host
from apps.core.actor import Actor
from controlplane import configuration, join
from controlplane.configuration import Configuration
from controlplane.embedded import door
from controlplane.embedded.program import Program, spawn, wait_ready
from workers.door.admit import write_door

ADMIN = Actor("user:usr_1", "Ada")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def settled(settings: Any, tmp_path: Path) -> Configuration:
    """The settings of an installation whose door is open, with the services of the test run."""
    own = configuration.load()
    made = Configuration(
        var=tmp_path / "main", run=own.run_directory, hosts_port=free_port(), hosts_bind="127.0.0.1", port=free_port()
    )
    settings.WINDLASS_DOOR = door.door_plan(made)
    settings.WINDLASS_DOOR_DIRECTORY = made.var / "door"
    made.var.mkdir()
    return made


@pytest.fixture
def open_door(settled: Configuration, transactional_db: None) -> Configuration:
    """Its files are written; nothing listens."""
    write_door()
    return settled


@dataclass
class Door:
    settled: Configuration
    folder: Path

    def invite(self, name: str = "second") -> Invited:
        return invite_host(name, ADMIN)

    def token(self, name: str = "second") -> join.Token:
        return join.Token.read(self.invite(name).token)

    def join(self, name: str = "second") -> join.Guest:
        """A machine joins, and is known at the door."""
        (self.folder / name).mkdir(exist_ok=True)
        guest = join.join(self.folder / name, self.token(name), "", 2.0, 2**30)
        write_door()
        return guest


class Running:
    """Envoy processes, ended after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, program: Program) -> None:
        process = spawn(program, self.folder / f"{program.name}.log")
        self.processes.append(process)
        wait_ready(program, process, self.folder / f"{program.name}.log")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    found = Running(tmp_path)
    yield found
    for process in found.processes:
        process.send_signal(signal.SIGTERM)
    for process in found.processes:
        process.wait(10)


@pytest.fixture
def living_door(settings: Any, settled: Configuration, running: Running, live_server: Any, tmp_path: Path) -> Door:
    """Open, with a web server behind it."""
    behind = settled.model_copy(update={"port": live_server.thread.port})
    settings.WINDLASS_DOOR = door.door_plan(behind)
    write_door()
    running.start(door.door(behind))
    return Door(behind, tmp_path)
