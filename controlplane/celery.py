"""The Celery application: it only makes the next step happen sooner, the truth is in the rows."""

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

app = Celery("windlass")
app.config_from_object("django.conf:settings", namespace="CELERY")


@signals.worker_ready.connect
def announce(**_: Any) -> None:
    """Tell whoever started this worker that it takes work (a supervisor, a container's health check)."""
    if path := os.environ.get("WINDLASS_READY_FILE"):
        Path(path).touch()
