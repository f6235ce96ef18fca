"""How a deployment stands: its phase and the sentence about it, from what is listed and ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.core.models import Goal
from apps.deployments.models import Deployment
from workers.reconcilers.parts import Part, View, is_lost


@dataclass(frozen=True)
class Lack:
    """What a part can't have now, in a sentence. `blocks`: it does not become ready as things are, so the others don't
    wait for it. `look_again`: in so many seconds."""

    part: Part
    words: str
    look_again: float
    blocks: bool = False


def standing(
    row: Deployment, seen: View, lacks: list[Lack], listing: list[dict[str, Any]] | None
) -> tuple[str, str, str, dict[str, Any]]:
    """Phase, reason, message and fields to write. `listing`: the new list, if it is to change."""
    listed = row.listing if listing is None else listing
    on_list = {item["revision"] for item in listed}
    ids_on_list = {item["placement"] for item in listed}
    replacing = _others_answer(seen, ids_on_list)
    serves = row.revision in on_list and seen.applied and listing is None and not replacing
    fields: dict[str, Any] = {
        "ready_replicas": seen.ready,
        "serving_revision": row.revision if serves else row.serving_revision,
    }
    ready = f"{seen.ready} of {seen.wanted} replicas ready"
    note = " ".join(lack.words for lack in lacks if lack.words)
    crash = _crash_sentence(seen)
    if serves and seen.ready >= seen.wanted and not note and not any(item.goal == Goal.RUN for item in seen.others):
        return "serving", "Serving", _all_ready(row, seen), fields
    if serves or (row.serving_revision == row.revision and not replacing):
        phase, reason = ("serving", "Scaling") if seen.ready else ("degraded", "NoReplicaReady")
        message = note or f"{ready}."
        if seen.ready and seen.ready < seen.wanted and crash:
            phase, reason = "degraded", "ReplicaCrashLoop"
        if missing := [lack for lack in lacks if lack.words and (lack.part.away or (row.spread and lack.blocks))]:
            phase, reason = "degraded", "PlaceMissing" if seen.ready else "NoReplicaReady"
            message = f"{ready}. {note}" + _who_takes_over(seen, missing)
    elif on_list and row.serving_revision is not None:
        phase, reason = "updating", "Moving"
        answers = "those before answer" if row.revision in on_list else f"r{min(on_list)} answers"
        message = note or f"Moving to r{row.revision}: {ready}, {answers}."
    else:
        phase, reason = "starting", "Starting"
        message = note or f"Loading the model: {ready}."
    if crash and seen.ready < seen.wanted:
        message = f"{message} {crash}" + (f" Roll back to stay at r{min(on_list)}." if phase == "updating" else "")
    return phase, reason, message, fields


def _all_ready(row: Deployment, seen: View) -> str:
    places = f" on {len(seen.parts)} places" if len(seen.parts) > 1 else ""
    return f"{seen.ready} ready{places}, r{row.revision} answers."


def _who_takes_over(seen: View, missing: list[Lack]) -> str:
    without = {lack.part.wanted.slot for lack in missing if not lack.part.ready}
    if without and any(part.ready for part in seen.parts if part.wanted.slot not in without):
        return " The other places take its share." if len(without) == 1 else " The other places take their share."
    return ""


def _others_answer(seen: View, listed: set[str]) -> bool:
    """Whether only other placements than the wanted ones get the requests, and are well."""
    if any(part.key in listed for part in seen.parts if part.current):
        return False
    others = [item for item in seen.others if item.goal == Goal.RUN and not item.is_ending and not is_lost(item)]
    return any(item.ready_ordinals for item in others if str(item.pk) in listed)


def _crash_sentence(seen: View) -> str:
    """What a replica that starts again and again says of itself, and where, if there are several places."""
    for part in seen.parts:
        if part.current and part.current.message.startswith("Replica"):
            return f"{part.place_name}: {part.current.message}" if len(seen.parts) > 1 else part.current.message
    return ""
