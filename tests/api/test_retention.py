"""What is not kept for ever goes in time, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import AuditEntry, Workspace
from apps.core import retention
from apps.core.models import Event, IdempotencyRecord
from apps.placements.models import LogChunk, Place, Placement
from tests.api.conftest import Caller
from tests.api.rows import ended, training_run

pytestmark = pytest.mark.django_db


def days_ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def test_events_are_kept_for_90_days_and_the_audit_trail_for_ever(workspace: Workspace) -> None:
    training_run(workspace)
    old, _young = Event.objects.order_by("pk")[:2]
    Event.objects.filter(pk=old.pk).update(at=days_ago(91))
    before = AuditEntry.objects.count()
    assert retention.clean_up()["events"] == 1
    assert not Event.objects.filter(pk=old.pk).exists() and Event.objects.exists()
    assert AuditEntry.objects.count() == before > 0


def test_answers_are_kept_for_a_day(developer: Caller) -> None:
    for key in ("a", "b"):
        developer.post("datasets", {"name": f"d{key}"}, Idempotency_Key=key)
    IdempotencyRecord.objects.filter(key="a").update(created_at=days_ago(1.1))
    assert retention.clean_up()["answers"] == 1
    assert IdempotencyRecord.objects.get().key == "b"


def test_logs_are_kept_for_30_days_after_their_end(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    run, place = training_run(workspace), Place.objects.create()
    rows = {}
    for attempt, name in enumerate(("running", "ended long ago", "ended lately"), 1):
        row = Placement.objects.create(
            workspace=workspace,
            owner_kind=run.kind,
            owner_id=run.pk,
            slot="n",
            attempt=attempt,
            place=place,
            workload={},
        )
        LogChunk.objects.bulk_create(
            [LogChunk(placement=row, stream="0", offset=n, data=b"x", at=days_ago(40)) for n in range(5)]
        )
        rows[name] = row
    ended(rows["ended long ago"], "failed", phase_since=days_ago(31))
    ended(rows["ended lately"], "failed", phase_since=days_ago(29))
    assert retention.clean_up()["logs"] == 5
    left = set(LogChunk.objects.values_list("placement__attempt", flat=True))
    assert left == {1, 3}
