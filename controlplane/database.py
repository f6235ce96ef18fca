"""From a PostgreSQL URL to Django's DATABASES."""

import os
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

POOLED_CONNECTIONS = 16
# A process that stalls in the middle of a transaction (it was frozen, its machine swaps) keeps rows locked that others
# wait for. Workers' transactions take milliseconds; a request may check the whole of an upload within one.
IDLE_SECONDS = {"web": 120, "worker": 10}


def database_settings(url: str) -> dict[str, Any]:
    """Django's settings for one database; everything that libpq knows may be in the URL (`?sslmode=verify-full`).

    The web process, whose requests run in short-lived threads, uses a pool. Workers fork, and a pool does not live
    through that, so they keep one connection a process.
    """
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise SystemExit(
            f"DATABASE_URL cannot be read: {str(error).strip()}. "
            "A value that works: postgresql://windlass:secret@db.example.org:5432/windlass"
        ) from None
    pooled = os.environ.get("WINDLASS_PROCESS") == "web"
    named = {name: str(parts.pop(name, "") or "") for name in ("dbname", "user", "password", "host", "port")}
    idle = f"-c idle_in_transaction_session_timeout={IDLE_SECONDS['web' if pooled else 'worker']}s"
    options: dict[str, Any] = {"connect_timeout": 5, "application_name": "windlass", **parts}
    options["options"] = f"{options.get('options', '')} {idle}".strip()
    if pooled:
        options["pool"] = {"min_size": 1, "max_size": POOLED_CONNECTIONS, "timeout": 4}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": named["dbname"] or "windlass",
        "USER": named["user"],
        "PASSWORD": named["password"],
        "HOST": named["host"],
        "PORT": named["port"],
        "CONN_MAX_AGE": 0 if pooled else 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }
