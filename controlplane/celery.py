"""The Celery application: it only makes the next step happen sooner, the truth is in the rows."""

import os
import signal
from pathlib import Path
from typing import Any

from celery import Celery, signals

from controlplane.embedded.program import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

app = Celery("windlass")
app.config_from_object("django.conf:settings", namespace="CELERY")


@signals.worker_ready.connect
def announce(**_: Any) -> None:
    """Tell whoever started this worker that it takes work (a supervisor, a container's health check)."""
    if path := os.environ.get("WINDLASS_READY_FILE"):
        Path(path).touch()


@signals.worker_process_init.connect
def share_fate(**_: Any) -> None:
    """A process of the pool ends with its worker: alone, it would wait for tasks that nobody hands it any more."""
    die_with_parent(signal.SIGKILL)
