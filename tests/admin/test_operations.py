"""Retry, wake, cancel, delete and release lease: what they change, and that they are remembered."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import AuditEntry, User, Workspace
from apps.core.models import Event
from apps.training.models import TrainingRun
from tests.admin.conftest import training_run
from tests.admin.pages import do, do_all, page_of, words


def later(run: TrainingRun, **fields: Any) -> TrainingRun:
    """As a row that waits for an hour."""
    TrainingRun.objects.filter(pk=run.pk).update(due_at=timezone.now() + timedelta(hours=1), **fields)
    run.refresh_from_db()
    return run


def entry(user: User, action: str, row: Any) -> AuditEntry:
    return AuditEntry.objects.get(actor=user.actor.id, action=action, target=row.typed_id, workspace=row.workspace)


def test_retry_forgets_strikes_and_wakes(staff: Client, staff_user: User, run: TrainingRun) -> None:
    later(run, strikes=12, retries=3)
    do(staff, run, "retry")
    run.refresh_from_db()
    assert (run.strikes, run.retries, run.wakes) == (0, 0, 1)
    assert run.due_at is not None and run.due_at <= timezone.now()
    assert entry(staff_user, "training_run.retry", run).detail["strikes"] == 12
    assert Event.objects.filter(row_id=run.pk, reason="RetryWanted", actor=staff_user.actor.id).exists()


def test_a_page_says_where_its_row_is(staff: Client, run: TrainingRun) -> None:
    later(run, strikes=12)
    page = staff.get(page_of(run)).content.decode()
    assert "Queued, quarantined" in page and "(&#x27;" not in page
    assert f"q={run.typed_id}" in page


def test_wake_keeps_strikes(staff: Client, staff_user: User, run: TrainingRun) -> None:
    later(run, strikes=2)
    do(staff, run, "wake")
    run.refresh_from_db()
    assert (run.strikes, run.wakes) == (2, 1)
    assert run.due_at is not None and run.due_at <= timezone.now()
    assert entry(staff_user, "training_run.wake", run)


def test_cancel_wants_a_stop(staff: Client, staff_user: User, run: TrainingRun) -> None:
    do(staff, run, "cancel")
    run.refresh_from_db()
    assert (run.goal, run.generation) == ("stop", 2)
    assert entry(staff_user, "training_run.cancel", run)


def test_delete_wants_a_delete(staff: Client, staff_user: User, run: TrainingRun) -> None:
    do(staff, run, "remove")
    run.refresh_from_db()
    assert run.goal == "delete"
    assert TrainingRun.objects.filter(pk=run.pk).exists()
    assert entry(staff_user, "training_run.delete", run)


def test_release_lease_makes_a_stale_worker_of_its_holder(staff: Client, staff_user: User, run: TrainingRun) -> None:
    from apps.core.wants import rows
    from workers import engine

    lease = engine.claim("training_run", run.pk)
    assert lease is not None
    do(staff, run, "release_lease")
    run.refresh_from_db()
    assert (run.lease_token, run.lease_expires_at) == (None, None)
    assert entry(staff_user, "training_run.release_lease", run)
    assert engine.apply(lease, engine.Outcome(phase="starting")) is False
    assert rows(TrainingRun).get(pk=run.pk).phase == "queued"
    assert engine.claim("training_run", run.pk) is not None


def test_release_without_a_lease_says_so(staff: Client, run: TrainingRun) -> None:
    assert "Nobody has a lease" in words(do(staff, run, "release_lease"))
    assert not AuditEntry.objects.filter(action="training_run.release_lease").exists()


@pytest.mark.parametrize("operation", ["retry", "wake", "cancel"])
def test_what_has_ended_stays_ended(staff: Client, run: TrainingRun, operation: str) -> None:
    TrainingRun.objects.filter(pk=run.pk).update(phase="succeeded", due_at=None)
    assert "ended" in words(do(staff, run, operation))
    run.refresh_from_db()
    assert (run.phase, run.due_at, run.goal) == ("succeeded", None, "run")


def test_nothing_is_done_before_it_is_confirmed(staff: Client, run: TrainingRun) -> None:
    address = page_of(run).removesuffix("change/") + "release_lease/"
    TrainingRun.objects.filter(pk=run.pk).update(lease_token=uuid4(), lease_expires_at=timezone.now())
    for response in (staff.get(address), staff.post(address), staff.get(address, {"confirmed": "yes"})):
        assert "can write nothing about this row any more" in response.content.decode()
    run.refresh_from_db()
    assert run.lease_token is not None


def test_many_at_once_are_asked_for_then_done(staff: Client, workspace: Workspace) -> None:
    runs = [training_run(workspace, number) for number in (1, 2, 3)]
    asked = do_all(staff, runs[:2], "cancel", confirmed=False)
    assert asked.content.decode().count('name="_selected_action"') == 2
    assert not TrainingRun.objects.filter(goal="stop").exists()
    assert "done for 2 training runs" in words(do_all(staff, runs[:2], "cancel"))
    assert set(TrainingRun.objects.filter(goal="stop")) == set(runs[:2])


def test_delete_refuses_what_is_in_use(staff: Client, everything: dict[Any, Any]) -> None:
    from apps.exports.models import Export

    export = everything[Export]
    assert "Delete the deployment first" in words(do(staff, export, "remove"))
    export.refresh_from_db()
    assert export.goal == "run"


@pytest.mark.parametrize("kind", ["Place", "Gateway", "Placement"])
def test_what_follows_others_is_not_cancelled_by_itself(staff: Client, everything: dict[Any, Any], kind: str) -> None:
    row = next(row for model, row in everything.items() if model.__name__ == kind)
    for operation in ("cancel", "remove"):
        do(staff, row, operation)
        row.refresh_from_db()
        assert row.goal == "run"
    do(staff, row, "wake")
    row.refresh_from_db()
    assert row.wakes == 1
