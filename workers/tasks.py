"""Celery's tasks: the one that reconciles, and the scheduled jobs. A lost task loses time, never truth."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from celery import shared_task, signals
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.clusters.models import Host
from apps.core.wants import models_by_kind, rows, wake
from apps.placements.services import wake_owners
from workers import engine, host
from workers.reconcilers import RECONCILERS

logger = logging.getLogger(__name__)
LOST_SECONDS = 60


@shared_task(name="workers.tasks.reconcile")
def reconcile(kind: str, row_id: str) -> None:
    """One step of one row; a hint for a row that is not due, or that somebody has, does nothing."""
    engine.reconcile(kind, row_id, RECONCILERS)


@signals.worker_ready.connect
def _start_threads(sender: Any, **_: Any) -> None:
    host.start([queue.name for queue in sender.task_consumer.queues])


@shared_task(name="workers.tasks.mark_lost_hosts")
def mark_lost_hosts() -> int:
    """A host that sent no heartbeat for a minute is lost: nothing new is placed there until it sends one again.

    Services that it had are replaced at once, jobs after five minutes.
    """
    seconds = LOST_SECONDS * settings.WINDLASS_TIME_SCALE
    if database_up_seconds() < seconds:
        return 0  # nobody could report while it was away; all get the time to
    with transaction.atomic():
        silent = Q(heartbeat_at__lt=Now() - timedelta(seconds=seconds)) | Q(heartbeat_at=None)
        lost = Host.objects.filter(lost_at=None).filter(silent)
        found = list(lost.values_list("pk", flat=True))
        Host.objects.filter(pk__in=found).update(lost_at=Now())
        wake_owners(found)
    return len(found)


def database_up_seconds() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
        (seconds,) = cursor.fetchone()
    return float(seconds)


@shared_task(name="workers.tasks.collect_blobs")
def collect_blobs() -> tuple[int, int]:
    from apps.registry.blobs import collect

    return collect()


@shared_task(name="workers.tasks.roll_up_usage")
def roll_up_usage() -> int:
    from apps.deployments.services import roll_up_usage as roll_up

    return roll_up()


@shared_task(name="workers.tasks.expire_keys")
def expire_keys() -> int:
    from apps.accounts.services import expire_keys as expire

    return expire()


@shared_task(name="workers.tasks.clean_up")
def clean_up() -> dict[str, int]:
    """Remove what its retention has passed: events, answers of idempotent requests, logs."""
    from apps.core.retention import clean_up as clean

    return clean()


@shared_task(name="workers.tasks.wake_everything")
def wake_everything() -> int:
    """Once a day every row that is not at its end is looked at, whatever its due time says."""
    count = 0
    for kind, model in models_by_kind().items():
        found = list(rows(model).exclude(phase__in=model.phases.final).values_list("pk", flat=True)[:10_000])
        wake(kind, found)
        count += len(found)
    return count


SCHEDULE: dict[str, tuple[str, int]] = {
    "Mark hosts that sent no heartbeat": ("workers.tasks.mark_lost_hosts", 15),
    "Roll up usage": ("workers.tasks.roll_up_usage", 300),
    "End keys that have expired": ("workers.tasks.expire_keys", 60),
    "Collect blobs that nothing refers to": ("workers.tasks.collect_blobs", 3600),
    "Remove old events and logs": ("workers.tasks.clean_up", 3600),
    "Look at every row": ("workers.tasks.wake_everything", 86_400),
}


@signals.beat_init.connect
def _fill_schedule(**_: Any) -> None:
    """The scheduled jobs as rows, where an administrator can change their times; what was changed stays."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    for name, (task, seconds) in SCHEDULE.items():
        every, _made = IntervalSchedule.objects.get_or_create(every=seconds, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.get_or_create(
            name=name, defaults={"task": task, "interval": every, "queue": "reconcile", "expire_seconds": seconds}
        )
