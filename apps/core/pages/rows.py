"""Managed rows as pages show them: their name and address, pill, events, the time they took, and how to let them go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Any
from uuid import UUID

from django.utils import timezone

from apps.core import ids
from apps.core.models import Event, Goal, Managed
from apps.core.page import Action, DangerDialog, PhasePart, PhaseTimeline, Pill
from apps.core.phases import CLEANING
from apps.core.wants import models_by_kind

SECTIONS = {
    "dataset_version": "datasets",
    "model_version": "models",
    "training_run": "training",
    "export": "exports",
    "deployment": "deployments",
    "placement": "placements",
}
NAMED_BY = {
    "dataset_version": ("dataset",),
    "model_version": ("model",),
    "export": ("model_version__model",),
    "place": ("host", "cluster"),
}
ICONS = {
    "dataset_version": "database",
    "model_version": "box",
    "training_run": "activity",
    "export": "package",
    "deployment": "radio-tower",
    "placement": "cpu",
    "place": "server",
    "gateway": "shuffle",
    "cluster": "cloud",
    "cloud_account": "key-round",
    "cloud_sight": "eye",
}
EVENTS_READ = 500


def url(root: str, row: Managed) -> str:
    """Its page, "" for kinds without one."""
    return url_of(root, row.kind, row.id)


def url_of(root: str, kind: str, row_id: UUID) -> str:
    section = SECTIONS.get(kind)
    return f"{root}{section}/{ids.typed(models_by_kind()[kind].prefix, row_id)}/" if section else ""


def label(row: Any) -> str:
    return str(getattr(row, "label", "") or getattr(row, "name", "") or row.typed_id)


def live(*rows: Managed) -> str:
    """What a region made of these rows hears of."""
    return " ".join(f"{row.kind}:{row.typed_id}" for row in rows)


def pill(row: Managed) -> Pill:
    phase = row.current_phase
    if row.quarantined and not row.is_final:
        return Pill("warn", "Needs a look")
    word = phase.word
    if row.goal == Goal.STOP and not row.is_final and row.is_ending:
        word = "Cancelling"
    elif row.goal == Goal.DELETE and not row.is_final:
        word = "Deleting"
    elif phase.name == "queued" and row.reason == "NoCapacity":
        word = "Waiting for capacity"
    return Pill(phase.tone, word)


# --- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """An event as a list shows it. `thing` is the name of its row, `words` what happened."""

    at: datetime
    kind: str
    icon: str
    thing: str
    url: str
    actor: str
    change: str
    words: str
    bad: bool


def lines(root: str, events: Iterable[Event]) -> list[Line]:
    """One query a kind for the names, however many events there are."""
    events = list(events)
    names = _names(events)
    return [_line(root, event, names.get((event.kind, event.row_id), "")) for event in events]


def _names(events: Sequence[Event]) -> dict[tuple[str, UUID], str]:
    found: dict[tuple[str, UUID], str] = {}
    for kind in sorted({event.kind for event in events}):
        model: Any = models_by_kind().get(kind)
        if model is not None:
            keys = {event.row_id for event in events if event.kind == kind}
            for row in model._default_manager.select_related(*NAMED_BY.get(kind, ())).filter(pk__in=keys):
                found[kind, row.pk] = label(row)
    return found


def _line(root: str, event: Event, name: str) -> Line:
    model = models_by_kind().get(event.kind)
    phases = model.phases if model else {}
    old, new = phases.get(event.old), phases.get(event.new)
    moved = new is not None and event.old != event.new
    before = f"{old.word} → " if old and moved and old.name != CLEANING else ""
    return Line(
        at=event.at,
        kind=model.title if model else event.kind,
        icon=ICONS.get(event.kind, "circle"),
        thing=name or (model.title if model else event.kind),
        url=url_of(root, event.kind, event.row_id) if name else "",
        actor=event.actor_name,
        change=f"{before}{new.word}" if new and moved else "",
        words=event.message or words(event.reason),
        bad=bool(new and moved and new.tone == "bad"),
    )


def words(reason: str) -> str:
    """AttemptLost reads "Attempt lost"."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", reason)
    return " ".join(parts).capitalize() if parts else ""


def events_of(row: Managed) -> list[Event]:
    """The latest, newest first."""
    return list(Event.objects.filter(kind=row.kind, row_id=row.pk).order_by("-id")[:EVENTS_READ])


# --- where the time went ------------------------------------------------------------------------------------------


def timeline(row: Managed, events: Iterable[Event]) -> PhaseTimeline | None:
    """From its events, whatever their order: how long it was in each phase. None where nothing is recorded yet."""
    moves = [event for event in sorted(events, key=lambda event: event.id) if event.new and event.new != event.old]
    parts: list[PhasePart] = []
    interrupted = False
    for move, following in zip_longest(moves, moves[1:]):
        phase = row.phases.get(move.new)
        if phase is None or phase.final or not phase.part:
            continue
        interrupted = (interrupted or move.reason == "AttemptLost") and phase.name in {"queued", "starting"}
        ends = following.at if following else timezone.now()
        seconds = max(0.0, (ends - move.at).total_seconds())
        parts.append(_part(row, phase, seconds, interrupted))
    return PhaseTimeline(parts) if parts and sum(part.seconds for part in parts) > 0 else None


def _part(row: Managed, phase: Any, seconds: float, interrupted: bool) -> PhasePart:
    if interrupted:
        return PhasePart("Lost to an interruption", seconds, "lost")
    tone = "bad" if phase.name == "cleaning" and row.phase == "failed" else phase.timeline_tone
    return PhasePart(phase.part.capitalize(), seconds, tone)


# --- letting go ---------------------------------------------------------------------------------------------------

DELETE_DIALOG = "delete"


def delete_action(may_write: bool) -> list[Action]:
    return [Action("Delete", icon="trash-2", style="danger", dialog=DELETE_DIALOG)] if may_write else []


def delete_dialog(
    row: Managed,
    address: str,
    *,
    goes: Sequence[tuple[str, str]] = (),
    stops: Sequence[str] = (),
    stays: Sequence[str] = (),
    confirm: str = "",
) -> DangerDialog:
    name = label(row)
    return DangerDialog(
        DELETE_DIALOG,
        f"Delete {name}?",
        f"{address}delete",
        f"Delete {name}",
        words="This cannot be undone.",
        goes=goes,
        stops=stops,
        stays=stays,
        confirm=confirm,
    )
