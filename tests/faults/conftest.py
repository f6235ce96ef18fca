from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from controlplane import configuration, installation
from controlplane.embedded import postgres, valkey
from controlplane.embedded.program import Program, spawn, stop, wait_ready

if TYPE_CHECKING:
    from tests.faults.plant import Plant


class Service:
    """PostgreSQL or Valkey, to be killed and started at will."""

    def __init__(self, program: Program, var: Path) -> None:
        self.program, self.log = program, var / f"{program.name}.log"
        self.start()

    def start(self) -> None:
        self.process = spawn(self.program, self.log)
        wait_ready(self.program, self.process, self.log)

    def kill(self) -> None:
        """SIGKILL; PostgreSQL's own children end with it, and it recovers at the next start."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        stop(self.program, self.process)


@pytest.fixture(scope="session")
def services() -> Iterator[dict[str, Service]]:
    settings = configuration.load()
    var = installation.var_directory(settings)
    run = settings.run_directory
    run.mkdir(parents=True, exist_ok=True)
    postgres.prepare(var / "postgres", run / "postgres")
    found = {
        "postgres": Service(postgres.program(var / "postgres", run / "postgres"), var),
        "valkey": Service(valkey.program(run / "valkey.sock"), var),
    }
    postgres.create_database(run / "postgres")
    yield found
    for service in found.values():
        service.stop()


@pytest.fixture(scope="session")
def plant(services: dict[str, Service], django_db_blocker: pytest.FixtureRequest) -> Iterator[Plant]:
    """Works on the services' own database, since its workers are other processes."""
    from django.conf import settings

    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], check=True)
    django_db_blocker.unblock()  # type: ignore[attr-defined]
    from tests.faults.plant import Plant
    from workers.gateway.bootstrap import write_bootstrap
    from workers.targets.process.target import stop_all

    write_bootstrap(
        settings.WINDLASS_GATEWAY_DIRECTORY, "127.0.0.1", 1, admin_socket=settings.WINDLASS_GATEWAY_ADMIN_SOCKET
    )
    plant = Plant(settings.WINDLASS_VAR)
    yield plant
    plant.worker.stop()
    stop_all(settings.WINDLASS_WORKLOADS_DIRECTORY, 1.0)


@pytest.fixture
def right_afterwards(plant: Plant) -> Iterator[None]:
    """Whatever a test broke: nothing is left, or the next one does not begin."""
    yield
    plant.disarm()
    plant.check_nothing_left()
    plant.check_blobs()
