from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.plant import Plant


@pytest.fixture(scope="session")
def plant(ground: Path, django_db_blocker: pytest.FixtureRequest) -> Iterator[Plant]:
    """Works on the ground's own database, since its workers are other processes."""
    from controlplane import configuration
    from controlplane.embedded.postgres import create_database

    create_database(configuration.load().run_directory / "postgres")
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], check=True)
    django_db_blocker.unblock()  # type: ignore[attr-defined]
    from django.conf import settings

    from tests.faults.plant import Plant
    from workers.gateway.bootstrap import write_bootstrap
    from workers.targets.process.target import stop_all

    write_bootstrap(
        settings.WINDLASS_GATEWAY_DIRECTORY, "127.0.0.1", 1, admin_socket=settings.WINDLASS_GATEWAY_ADMIN_SOCKET
    )
    plant = Plant(ground)
    yield plant
    plant.worker.stop()
    stop_all(settings.WINDLASS_WORKLOADS_DIRECTORY, 1.0)
