"""Writing wants, and waking rows. `want` is the only writer of a goal or a spec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from django.apps import apps
from django.db import connection, models, transaction
from django.db.models import F
from django.db.models.functions import Now

from apps.core.actor import Actor, request_id
from apps.core.hints import hint
from apps.core.models import Event, Goal, Managed

CHANNEL = "windlass"
Row = TypeVar("Row", bound=Managed)


class Deleting(Exception):
    """The row's goal is delete; nothing comes back from that."""


class Outdated(Exception):
    """If-Match named an older generation: somebody changed the row in between."""


class NotStoppable(Exception):
    """A goal that this row cannot take any more, with words for the user."""


@cache
def models_by_kind() -> dict[str, type[Managed]]:
    return {model.kind: model for model in apps.get_models() if issubclass(model, Managed)}


def model_of(kind: str) -> type[Managed]:
    """Raises KeyError for an unknown kind."""
    return models_by_kind()[kind]


def rows(model: type[Row]) -> models.QuerySet[Row, Row]:
    return model._default_manager.all()


def notify(row: Managed, event: int | None = None) -> None:
    """Tell open pages, when this transaction commits, that the row changed: ids only, never content."""
    payload = {
        "workspace": str(row.workspace_id) if row.workspace_id else None,
        "kind": row.kind,
        "id": row.typed_id,
        "version": row.version,
        "event": event,
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, json.dumps(payload)])


def tell(row: Managed, actor: Actor, *, old: str, new: str, reason: str, message: str) -> None:
    """Append an event and notify, in the caller's transaction."""
    event = Event.objects.create(
        workspace_id=row.workspace_id,
        kind=row.kind,
        row_id=row.id,
        actor=actor.id,
        actor_name=actor.name,
        request_id=request_id.get(),
        old=old,
        new=new,
        reason=reason,
        message=message,
    )
    notify(row, event.pk)


def create(row: Row, actor: Actor, *, reason: str = "Created", message: str = "") -> Row:
    """Insert a managed row with its first event, due at once. Raises IntegrityError when its name is taken."""
    with transaction.atomic():
        row.created_by = actor.id
        row.message = row.message or message
        row.save(force_insert=True)
        tell(row, actor, old="", new=row.phase, reason=reason, message=message)
        hint(row.kind, str(row.id), row.queue)
    return row


def want(
    row: Row,
    actor: Actor,
    *,
    goal: str | None = None,
    spec: dict[str, Any] | None = None,
    if_generation: int | None = None,
    reason: str = "",
    message: str = "",
) -> Row:
    """Change what is wanted of `row`; returns it as it is now. Saying the same again changes nothing.

    Raises Deleting, Outdated (the row's generation is not `if_generation`), NotStoppable.
    """
    model = type(row)
    with transaction.atomic():
        locked = rows(model).select_for_update(no_key=True).get(pk=row.pk)
        check_generation(locked, if_generation)
        changes: dict[str, Any] = {}
        if goal is not None and goal != locked.goal:
            _check_goal(locked, goal)
            changes["goal"] = goal
        for name, value in (spec or {}).items():
            if name not in model.spec_fields:
                raise TypeError(f"{name} is not a spec field of {model.kind}")
            if getattr(locked, name) != value:
                changes[name] = value
        if not changes:
            return locked
        if locked.goal == Goal.DELETE:
            raise Deleting(f"{locked.typed_id} is being deleted.")
        for name, value in changes.items():
            setattr(locked, name, value)
        rows(model).filter(pk=row.pk).update(
            **changes,
            generation=F("generation") + 1,
            version=F("version") + 1,
            wakes=F("wakes") + 1,
            due_at=Now(),
            hinted_at=None,
        )
        locked.generation += 1
        locked.version += 1
        words: dict[str, str] = {Goal.RUN: "StartWanted", Goal.STOP: "StopWanted", Goal.DELETE: "DeleteWanted"}
        tell(
            locked,
            actor,
            old=locked.phase,
            new=locked.phase,
            reason=reason or words.get(changes.get("goal", ""), "SpecChanged"),
            message=message or ", ".join(f"{name}: {value}" for name, value in changes.items() if name != "goal")[:500],
        )
        hint(locked.kind, str(locked.id), locked.queue)
    return locked


def check_generation(row: Managed, if_generation: int | None) -> None:
    """Raises Outdated where If-Match named another generation than the (locked) row's."""
    if if_generation is not None and row.generation != if_generation:
        raise Outdated(f"{row.typed_id} is at generation {row.generation}, not {if_generation}.")


def _check_goal(row: Managed, goal: str) -> None:
    if row.goal == Goal.DELETE:
        raise Deleting(f"{row.typed_id} is being deleted.")
    if goal == Goal.STOP and row.is_final:
        raise NotStoppable(f"This has ended already: {row.current_phase.word.lower()}.")
    if goal == Goal.RUN and not row.restartable:
        raise NotStoppable("What was cancelled does not start again. Clone it instead.")


def wake(kind: str, row_ids: Iterable[UUID]) -> None:
    """Make rows due now, in the caller's transaction; a step in progress will run once more."""
    model = model_of(kind)
    with transaction.atomic():
        found = lock(model, list(row_ids))
        rows(model).filter(pk__in=[row.pk for row in found]).exclude(due_at=None, phase__in=model.phases.final).update(
            wakes=F("wakes") + 1, due_at=Now(), hinted_at=None
        )
        for row in found:
            hint(kind, str(row.pk), row.queue)


def lock(model: type[Row], row_ids: Sequence[UUID]) -> list[Row]:
    """Lock rows in the order of their ids, as everybody does, so that no two lockers wait for each other."""
    return list(rows(model).select_for_update(no_key=True).filter(pk__in=row_ids).order_by("pk"))
