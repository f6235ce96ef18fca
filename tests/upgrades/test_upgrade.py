"""Every state that was ever kept here can still be upgraded to this one, with all its rows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from controlplane import configuration
from controlplane.embedded import postgres

DUMPS = sorted(Path(__file__).parent.glob("*.sql"))
READ_EVERYTHING = """
import django
django.setup()
from django.apps import apps
for model in apps.get_models():
    for row in model._default_manager.all():
        str(row)
    print(model._meta.db_table, model._default_manager.count())
"""


def rows_of(dump: Path) -> dict[str, int]:
    """How many rows each table of a dump has, from its COPY blocks."""
    found: dict[str, int] = {}
    table = ""
    for line in dump.read_text().splitlines():
        if match := re.match(r"COPY public\.(\w+) ", line):
            table = match[1]
            found[table] = 0
        elif line == "\\.":
            table = ""
        elif table:
            found[table] += 1
    return found


def test_there_is_a_state_to_upgrade_from() -> None:
    assert DUMPS
    assert rows_of(DUMPS[0])["training_trainingrun"] >= 1


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_an_older_state_upgrades_with_all_its_rows(ground: Path, dump: Path) -> None:
    sockets = configuration.load().run_directory / "postgres"
    name = f"upgrade_{dump.stem.replace('-', '_')}"
    postgres.create_database(sockets, name)
    psql = [str(postgres.binaries() / "psql"), "-h", str(sockets), "-U", postgres.SUPERUSER, "-d", name]
    subprocess.run([*psql, "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump)], check=True, capture_output=True)
    url = f"postgresql://{postgres.SUPERUSER}@/{name}?host={quote(str(sockets), safe='')}"
    environment = {**os.environ, "DATABASE_URL": url}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], check=True, env=environment)
    read = subprocess.run(
        [sys.executable, "-c", READ_EVERYTHING], check=True, env=environment, capture_output=True, text=True
    )
    now = {table: int(count) for table, count in (line.split() for line in read.stdout.splitlines())}
    before = {table: count for table, count in rows_of(dump).items() if table in now}
    still = {table: now[table] for table in before if table not in {"django_content_type", "auth_permission"}}
    assert still == {table: count for table, count in before.items() if table in still}
