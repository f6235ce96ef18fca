"""What an operator can do to a managed row. Each is one transaction with its event and its audit entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import F

from apps.accounts import audit
from apps.core.actor import Actor
from apps.core.admin.base import Operation
from apps.core.errors import Conflict
from apps.core.models import Goal, Managed
from apps.core.wants import lock, rows, tell, wake, want


def _held(row: Managed) -> Managed:
    """The row as it is now, locked. Raises Conflict when nothing is to be done with it any more."""
    (now,) = lock(type(row), [row.pk])
    if now.is_final and now.due_at is None:
        raise Conflict(f"This has ended ({now.current_phase.word.lower()}); nothing is left to be done with it.")
    return now


def _remember(row: Managed, actor: Actor, verb: str, reason: str, message: str, **detail: Any) -> None:
    tell(row, actor, old=row.phase, new=row.phase, reason=reason, message=message)
    detail = {"via": "console", "phase": row.phase, **detail}
    audit.record(actor, f"{row.kind}.{verb}", row.typed_id, detail, row.workspace)


def _change(row: Managed, **fields: Any) -> None:
    rows(type(row)).filter(pk=row.pk).update(**fields, version=F("version") + 1)
    row.version += 1


def retry(row: Managed, actor: Actor) -> None:
    """Forget its strikes and waits, and take its step now."""
    with transaction.atomic():
        now = _held(row)
        _change(now, strikes=0, retries=0)
        wake(now.kind, [now.pk])
        _remember(now, actor, "retry", "RetryWanted", "An administrator has it tried again now.", strikes=now.strikes)


def wake_up(row: Managed, actor: Actor) -> None:
    with transaction.atomic():
        now = _held(row)
        wake(now.kind, [now.pk])
        _remember(now, actor, "wake", "WakeWanted", "An administrator has it looked at now.")


def cancel(row: Managed, actor: Actor) -> None:
    with transaction.atomic():
        now = want(row, actor, goal=Goal.STOP)
        audit.record(actor, f"{now.kind}.cancel", now.typed_id, {"via": "console"}, now.workspace)


def delete_with(check_unused: Callable[[Any], None] | None) -> Callable[[Any, Actor], None]:
    """A delete that refuses, as the API does, what other rows still need."""

    def delete(row: Managed, actor: Actor) -> None:
        with transaction.atomic():
            lock(type(row), [row.pk])
            if check_unused:
                check_unused(row)
            now = want(row, actor, goal=Goal.DELETE)
            audit.record(actor, f"{now.kind}.delete", now.typed_id, {"via": "console"}, now.workspace)

    return delete


def release_lease(row: Managed, actor: Actor) -> None:
    with transaction.atomic():
        (now,) = lock(type(row), [row.pk])
        if now.lease_token is None:
            raise Conflict("Nobody has a lease of it.")
        _change(now, lease_token=None, lease_expires_at=None)
        wake(now.kind, [now.pk])
        message = "An administrator took the lease from the worker that had it; another one goes on."
        _remember(now, actor, "release_lease", "LeaseReleased", message, lease_ended=str(now.lease_expires_at))


RETRY = Operation(
    "retry",
    "Retry now",
    "Its failures in a row are forgotten and its next step is taken now, rather than at the end of its wait. "
    "This is also how a row comes out of quarantine.",
    retry,
    icon="replay",
)
WAKE = Operation(
    "wake",
    "Wake",
    "It is looked at now, rather than when it is due. Nothing that is wanted of it changes.",
    wake_up,
    icon="notifications_active",
)
RELEASE_LEASE = Operation(
    "release_lease",
    "Release lease",
    "The worker that has it can write nothing about this row any more, and another one takes the same step at once. "
    "What the first one has asked of a host or a cloud stays asked, and it may still be asking: do this only when that "
    "worker is dead or stuck. A lease ends by itself after at most 60 s.",
    release_lease,
    icon="lock_open",
    danger=True,
)
CANCEL = Operation(
    "cancel",
    "Cancel",
    "What it runs is told to stop and given time to; what it wrote until then is kept. It ends as cancelled.",
    cancel,
    icon="cancel",
    danger=True,
)
STOP = Operation(
    "cancel",
    "Stop",
    "It is taken off the gateway, requests in flight are finished, then its replicas are stopped. It can be started "
    "again.",
    cancel,
    icon="stop_circle",
    danger=True,
)


def delete(check_unused: Callable[[Any], None] | None = None) -> Operation:
    return Operation(
        "remove",
        "Delete",
        "What it runs is stopped, what it holds is given back, and then it is gone. Nothing brings it back.",
        delete_with(check_unused),
        icon="delete",
        danger=True,
    )
