"""Hints: "look at this row now", published to Celery by a background thread.

A hint is never needed for the right outcome (the sweep finds what is due), so it never raises and never blocks:
the queue is bounded and a full one, or a broker that is away, drops it.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading

from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)
TASK = "workers.tasks.reconcile"


class Publisher:
    """One thread and one bounded queue a process; made anew after a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.queue: queue.Queue[tuple[str, str, str]] = queue.Queue(maxsize=1000)
        threading.Thread(target=self._run, name="hints", daemon=True).start()

    def _run(self) -> None:
        while True:
            kind, row_id, queue_name = self.queue.get()
            try:
                publish(kind, row_id, queue_name)
            except Exception as error:  # the broker is away: the sweep will find the row
                logger.debug("hint dropped: %s", error)
            finally:
                self.queue.task_done()


_publisher: Publisher | None = None
_lock = threading.Lock()


def publish(kind: str, row_id: str, queue_name: str) -> None:
    """Publish now, in this thread. Raises what the broker raises, within its socket time limits."""
    current_app.send_task(TASK, (kind, row_id), queue=queue_name, retry=False, ignore_result=True, expires=60)


def hint(kind: str, row_id: str, queue_name: str) -> None:
    """After the current transaction commits, best effort."""
    transaction.on_commit(lambda: _put(kind, str(row_id), queue_name))


def _put(kind: str, row_id: str, queue_name: str) -> None:
    global _publisher
    if not settings.WINDLASS_HINTS:
        return
    with _lock:
        if _publisher is None or _publisher.pid != os.getpid():
            _publisher = Publisher()
    try:
        _publisher.queue.put_nowait((kind, row_id, queue_name))
    except queue.Full:
        logger.debug("hint dropped: %s are waiting already", _publisher.queue.maxsize)


@atexit.register
def _flush() -> None:
    """A short process (a command) gives its last hints a moment to leave."""
    publisher = _publisher
    if publisher is not None and publisher.pid == os.getpid() and publisher.queue.unfinished_tasks:
        waiter = threading.Thread(target=publisher.queue.join, daemon=True)
        waiter.start()
        waiter.join(timeout=0.5)
