"""What is not kept for ever: events 90 days, logs 30 days after their placement ended, stored answers 24 hours.

The audit trail is never shortened.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from apps.core.api.idempotency import KEPT
from apps.core.models import Event, IdempotencyRecord
from apps.core.wants import model_of

EVENTS_KEPT = timedelta(days=90)
LOGS_KEPT = timedelta(days=30)
BATCH = 5000


def clean_up() -> dict[str, int]:
    """Returns how many rows of each kind went. In batches, so that no transaction is long."""
    from apps.placements.models import LogChunk

    now = timezone.now()
    placement: Any = model_of("placement")
    ended = placement.objects.filter(phase__in=placement.phases.final, phase_since__lt=now - LOGS_KEPT)
    return {
        "events": _remove(Event.objects.filter(at__lt=now - EVENTS_KEPT)),
        "answers": _remove(IdempotencyRecord.objects.filter(created_at__lt=now - KEPT)),
        "logs": _remove(LogChunk.objects.filter(at__lt=now - LOGS_KEPT, placement__in=ended)),
    }


def _remove(rows: QuerySet[Any]) -> int:
    removed = 0
    while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
        rows.model._default_manager.filter(pk__in=batch).delete()
        removed += len(batch)
    return removed
