"""The tests' own ground: a real PostgreSQL answers through Django, and it is the one of this test run."""

from pathlib import Path

import pytest
from django.db import connection


@pytest.mark.django_db
def test_it_gives_a_real_postgresql(ground: Path) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        (directory,) = cursor.fetchone()
    assert Path(directory) == ground / "postgres"
    assert connection.vendor == "postgresql"


def test_it_gives_a_real_broker(ground: Path) -> None:
    from controlplane.celery import app

    with app.connection_for_write() as broker:
        broker.ensure_connection(max_retries=1)
        assert broker.connected
