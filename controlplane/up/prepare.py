"""Bring the database to this version, and make the administrator at the very first start.

One process for both, since importing Django is most of the time that either takes.
"""

import os
import sys
from typing import Any

import django
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import OperationalError


def pending() -> list[Any]:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return list(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    django.setup()
    try:
        plan = pending()
    except OperationalError as error:
        raise SystemExit(
            f"The database does not answer: {str(error).strip()}\n"
            "Check DATABASE_URL, for example postgresql://windlass:secret@db.example.org:5432/windlass"
        ) from None
    if plan:
        print(f"      {len(plan)} changes to the tables ...", flush=True)
        call_command("migrate", interactive=False, verbosity=0)
    call_command("first_start")
    from django.conf import settings

    from workers.door import admit

    if settings.WINDLASS_DOOR:
        admit.write_door()
    else:
        admit.close_door()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
