"""What every job's owner does: wait for capacity, follow the placement, try again when it was lost, clean up.

A run, an export and an upload's check differ only in the workload that they build and in what they make of its
outputs: a `Job` says both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.core.actor import WINDLASS
from apps.core.models import Goal
from apps.core.phases import CLEANING, DELETED
from apps.core.wants import lock, want
from apps.placements import services
from apps.placements.foreign import parse_json
from apps.placements.models import Placement, PlacementBlob
from apps.placements.observation import Observed
from apps.placements.workload import Input
from apps.registry import blobs
from apps.registry.models import Blob
from workers.engine import Context, Outcome, Reconciler, stay

JSON_BYTES = 1024**2
FRUITLESS_ATTEMPTS = 3
LOST = frozenset({"killed", "preempted"})
LOST_JOB_SECONDS = 300.0
LAST_NODE_SECONDS = 30.0


@dataclass(frozen=True)
class Ending:
    """How a job ends, and what is written with that; `also` runs in the same transaction."""

    ending: str
    reason: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    also: Callable[[], None] | None = None


@dataclass(frozen=True)
class Job:
    """`working`: the phase while its placement runs (`starting` before that, if the kind has one).

    `draft`: the workload of the next attempt, built (with its outputs' blobs) when a place was found. `fresh`: fields
    to write when an attempt begins, `ended` when all is over. `follow`: what to write while it works. `finish`: what a
    placement that ended well makes of its owner. `kept`: fields to write from one that ended otherwise (a checkpoint).
    `clear`: removes what is the owner's alone, when it is deleted; `forgets`: its references that go with it, so that
    their blobs can. `words`: by reason, what to tell of a failure where its place's own words can't know what helps.
    `cancelled`: what to tell after a cancel, from the row and the fields that are written with it.
    """

    kind: str
    working: str
    draft: Callable[[Any, Context], services.Draft]
    finish: Callable[[Any, Placement, dict[str, Blob]], Ending]
    follow: Callable[[Any, Placement], dict[str, Any]] = lambda row, placement: {}
    kept: Callable[[Any, dict[str, Blob]], dict[str, Any]] = lambda row, outputs: {}
    clear: Callable[[Any], None] = lambda row: None
    forgets: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    cancelled: Callable[[Any, dict[str, Any]], str] = lambda row, changes: "Cancelled. Nothing of it is kept."
    started_phase: str = ""
    fresh: Mapping[str, Any] = field(default_factory=dict)
    ended: Mapping[str, Any] = field(default_factory=dict)

    def reconciler(self) -> Reconciler:
        steps = {"queued": self.queued, self.working: self.work, CLEANING: self.clean}
        if self.started_phase:
            steps[self.started_phase] = self.work
        return Reconciler(self.kind, steps)

    def queued(self, row: Any, context: Context) -> Outcome:
        """Reserve a place for the next attempt, or wait for one."""
        attempt = row.attempt + 1
        draft = self.draft(row, context)
        try:
            context.record("reserve", lambda: services.reserve(row, attempt, draft))
        except services.NoCapacity as error:
            return stay(row, after=10, reason="NoCapacity", message=f"Waiting for capacity: {error}.")
        return Outcome(
            phase=self.started_phase or self.working,
            reason="Placed",
            message="Getting ready." if attempt == 1 else f"Getting ready, attempt {attempt}.",
            fields={"attempt": attempt, **self.fresh},
        )

    def work(self, row: Any, context: Context) -> Outcome:
        """Follow the placements of the current attempt, one a node, to their end.

        The first speaks for all, since what the job leaves is left there: once that ended well, all did.
        """
        nodes = placements_of(row)
        first = nodes[0]
        living = [node for node in nodes if not node.is_final]
        succeeded = first.phase == "succeeded"
        if succeeded and (not living or self._had_time(first, context)):
            return self._ended(row, first, self.follow(row, first))
        if not succeeded and any(node.place.lost_at for node in living):
            return self._wait_for_hosts(row, living, context)
        changes = self.follow(row, first)
        failed = [node for node in nodes if node.is_final and node.phase != "succeeded"]
        if failed and not living:
            return self._ended(row, culprit(failed), changes)
        if failed:
            settle_placements(row.pk, Goal.STOP, context)  # all ranks or none
            return stay(row, after=2)
        phase, reason, message = self._standing(row, first)
        return Outcome(
            phase=phase,
            reason=changes.pop("reason", reason),
            message=changes.pop("message", message),
            progress=changes.pop("progress", row.progress),
            after=changes.pop("after", 2 if succeeded else None),
            also=changes.pop("also", None),
            fields=changes,
        )

    def _standing(self, row: Any, first: Placement) -> tuple[str, str, str]:
        """Phase, reason and message while it works, from what its place says."""
        phase = row.phase
        if phase == self.started_phase and first.phase in {"running", "ready"}:
            phase = self.working
        if row.reason == "HostLost":  # it is back
            return phase, "Working" if phase == self.working else "Placed", first.message or "It goes on."
        reason = "Working" if phase == self.working else row.reason
        return phase, reason, row.message if row.progress else first.message or row.message

    @staticmethod
    def _had_time(first: Placement, context: Context) -> bool:
        """Whether the others, too, should have ended by now."""
        age = context.now() - first.phase_since
        return age.total_seconds() > LAST_NODE_SECONDS * settings.WINDLASS_TIME_SCALE

    def _wait_for_hosts(self, row: Any, living: list[Placement], context: Context) -> Outcome:
        """For a while; then another attempt follows elsewhere. What stands on the lost hosts counts no more: it goes
        when they are back. What the others have (a checkpoint) is kept."""
        lost = [node.place for node in living if node.place.lost_at]
        names = " and ".join(sorted({place.name for place in lost}))
        since = min(place.lost_at for place in lost if place.lost_at)
        left = LOST_JOB_SECONDS * settings.WINDLASS_TIME_SCALE - (context.now() - since).total_seconds()
        if left > 0:
            words = f"No answer from {names}. If none comes, it goes on elsewhere in {left:.0f} s by itself."
            return stay(row, after=min(left, 30.0), reason="HostLost", message=words)
        if settle_placements(row.pk, Goal.STOP, context):
            words = f"{names} did not come back. What runs on other hosts is stopped, then it goes on elsewhere."
            return stay(row, after=2, reason="HostLost", message=words)
        return Outcome(
            phase="queued",
            reason="HostLost",
            message=f"{names} did not come back. Attempt {row.attempt + 1} follows elsewhere; nothing for you to do.",
            after=1,
            fields=self.kept(row, attempt_outputs(row)),
        )

    def _ended(self, row: Any, placement: Placement, changes: dict[str, Any]) -> Outcome:
        outputs = attempt_outputs(row)
        also = changes.pop("also", None)
        for name in ("reason", "message", "progress", "after"):
            changes.pop(name, None)
        if placement.phase == "succeeded":
            ending = self.finish(row, placement, outputs)
            return Outcome(
                phase=CLEANING,
                ending=ending.ending,
                reason=ending.reason,
                message=ending.message,
                after=0,
                fields={**changes, **ending.fields},
                also=_both(also, ending.also),
            )
        changes |= self.kept(row, outputs)
        exit_ = last_seen(placement).exit
        lost = not refused(placement) and (placement.phase == "cancelled" or exit_ is None or exit_.reason in LOST)
        fruitless = 0 if outputs else row.fruitless_attempts + 1
        if lost and fruitless < FRUITLESS_ATTEMPTS:
            return Outcome(
                phase="queued",
                reason="AttemptLost",
                message=f"Attempt {row.attempt} was interrupted. {placement.message} "
                "It goes on by itself; nothing for you to do.",
                after=1,
                fields={**changes, "fruitless_attempts": fruitless},
                also=also,
            )
        reason = placement.reason
        message = self.words.get(reason, placement.message)
        if lost:
            reason = "AttemptsExhausted"
            message = (
                f"It was interrupted {fruitless} times in a row before it got anywhere. The last time: {message} "
                "Its log may tell why; where memory is short, ask for less at once. Then start it again."
            )
        return Outcome(
            phase=CLEANING, ending="failed", reason=reason, message=message, after=0, fields=changes, also=also
        )

    def clean(self, row: Any, context: Context) -> Outcome:
        """Until nothing of it is left anywhere; then the ending that was decided."""
        deleting = row.ending == DELETED
        left = settle_placements(row.pk, Goal.DELETE if deleting else Goal.STOP, context)
        if left:
            return stay(row, after=5, message=row.message or "Cleaning up after it.")
        changes: dict[str, Any] = {}
        last = placements_of(row)
        if last and not deleting:
            changes |= self.follow(row, last[0])
            if row.ending == "cancelled":
                changes |= self.kept(row, attempt_outputs(row))
        also = changes.pop("also", None)
        for name in ("reason", "message", "progress", "after"):
            changes.pop(name, None)
        if deleting:
            self.clear(row)
            changes |= dict.fromkeys(self.forgets)
        else:
            changes |= self.ended
        # What it read may be deleted from now on, and what it made is held by those whose it is. What is on a lost
        # host may still be written: that is let go with its placement.
        held = PlacementBlob.objects.filter(placement__owner_id=row.pk).exclude(placement__goal=Goal.DELETE)
        also = _both(also, held.delete)
        words = {
            "cancelled": ("Cancelled", self.cancelled(row, changes)),
            DELETED: ("Deleted", ""),
        }
        reason, message = words.get(row.ending, (row.reason, row.message))
        return Outcome(
            phase=row.ending, reason=reason, message=message, progress=row.progress, fields=changes, also=also
        )


def _both(first: Callable[[], object] | None, second: Callable[[], object] | None) -> Callable[[], None]:
    def write() -> None:
        for act in (first, second):
            if act:
                act()

    return write


def last_seen(placement: Placement) -> Observed:
    """How it ended, as far as its target ever told."""
    return Observed.from_json(placement.ended) if placement.ended else Observed("gone")


def placements_of(row: Any) -> list[Placement]:
    """Those of the present attempt, by node."""
    found = Placement.objects.filter(owner_id=row.pk, attempt=row.attempt).select_related("place__host")
    return sorted(found, key=lambda placement: int(placement.slot.rpartition("-")[2]))


def refused(placement: Placement) -> bool:
    """Whether its target, or a step before that, would not have it: so it would be the next time too."""
    return placement.phase == "failed" and placement.applied_generation == 0 and placement.reason != "Lost"


def culprit(failed: list[Placement]) -> Placement:
    """Of several nodes that ended badly, the one that tells why.

    One that was refused, else one that failed by itself, else one that was killed before we stopped the others; of
    several the first.
    """

    def order(placement: Placement) -> tuple[int, str]:
        seen = last_seen(placement)
        if refused(placement):
            rank = 0
        elif placement.phase == "failed" and seen.exit is not None and seen.exit.reason not in LOST:
            rank = 1
        else:
            rank = 2 if placement.stop_asked_at is None else 3
        return rank, seen.times.get("exited", "~")

    return min(failed, key=order)


def attempt_outputs(row: Any) -> dict[str, Blob]:
    """The blobs that the present attempt's program left, complete and checked, by output name."""
    found = PlacementBlob.objects.filter(
        placement__owner_id=row.pk, placement__attempt=row.attempt, way="out", blob__state=Blob.State.READY
    )
    return {item.name: item.blob for item in found.select_related("blob")}


def settle_placements(owner_id: UUID, goal: str, context: Context) -> int:
    """Want every placement of an owner stopped or deleted; returns how many are not there yet.

    Those on a lost host are not waited for: they keep what they hold until the host is back or declared dead, and
    then go whole, since nothing that they leave counts any more.
    """
    left = [row for row in services.of_owner(owner_id) if goal == Goal.DELETE or not row.is_final]
    wanted = {row.pk: Goal.DELETE if row.place.lost_at and not row.is_final else goal for row in left}
    behind = [row.pk for row in left if row.goal not in {wanted[row.pk], Goal.DELETE}]
    if behind:

        def write() -> None:
            for placement in lock(Placement, behind):
                if wanted[placement.pk] == Goal.DELETE or not placement.is_final:
                    want(placement, WINDLASS, goal=wanted[placement.pk])

        context.record("settle", write)
    return sum(not row.place.lost_at for row in left)


def blob_input(name: str, blob: Blob, *, tree: bool = False) -> Input:
    return Input(name, blob.typed_id, blob.sha256 or "", blob.size_bytes or 0, "tree" if tree else "file")


def read_json(blob: Blob | None) -> dict[str, Any]:
    """A small JSON object that a program left; {} if it is none."""
    if blob is None or (blob.size_bytes or 0) > JSON_BYTES:
        return {}
    try:
        value = parse_json(b"".join(blobs.read(blob)))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def output_blob(row: Any) -> str:
    """A new blob's typed id for an output of `row`'s next attempt; unreferenced ones are collected."""
    return blobs.new_output(row.workspace).typed_id
