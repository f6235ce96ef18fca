"""A placement: the only caller of targets. Apply, follow what the place observes, carry logs, clean up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import Secret
from apps.core.models import Goal
from apps.core.phases import CLEANING, DELETED
from apps.core.sealing import unseal_field
from apps.core.wants import wake
from apps.deployments.models import Gateway
from apps.placements.models import LogChunk, Placement, PlacementBlob, Reservation
from apps.placements.observation import Observed
from apps.registry import blobs
from apps.registry.models import Blob
from workers import targets
from workers.crashpoints import point
from workers.engine import Context, Outcome, Reconciler, Refused, Retry, stay
from workers.targets import contract

CHUNK_BYTES = 256 * 1024
CHUNKS_A_STEP = 8
DELETE_GRACE_SECONDS = 5.0
FAR_LOG_SECONDS, STEADY_LOG_SECONDS = 5.0, 300.0
EXIT_REASONS = {"ok": "Finished", "oom": "OutOfMemory", "killed": "Killed", "deadline": "Deadline"}


def pending(row: Placement, context: Context) -> Outcome:
    """Have the target start it."""
    if row.place.gone_at:
        return _outcome(row, CLEANING, "Lost", f"{row.place.name} is gone.", ending="failed", after=0, fields={})
    changes = {"grants_end_at": _apply(row, context), "applied_generation": row.generation}
    return _outcome(row, "starting", "Starting", "Starting.", fields=changes, observe=True)


def following(row: Placement, context: Context) -> Outcome:
    """Starting, running or ready: pass on a change of the replicas, and write what the place saw."""
    if row.applied_generation != row.generation and not row.place.gone_at:
        changes = {"grants_end_at": _apply(row, context), "applied_generation": row.generation}
        return _outcome(row, row.phase, row.reason, row.message, fields=changes, observe=True)
    seen = row.seen
    if seen is None:
        return stay(row, after=5)
    phase, reason, message = _meaning(row, seen)
    if phase == CLEANING:
        ending = "succeeded" if seen.exit and seen.exit.reason == "ok" else "failed"
        return _outcome(row, CLEANING, reason, message, ending=ending, after=0, fields={"ended": row.observed})
    if _must_renew(row):
        changes = {"grants_end_at": _apply(row, context)}
        return _outcome(row, row.phase, row.reason, row.message, fields=changes, observe=True)
    pause = _until_asked(row, seen)
    chunks, offsets, more = _pull(row, seen, unknown=pause == 0)
    fields: dict[str, Any] = {"log_offsets": offsets, "ready_ordinals": list(seen.ready_ordinals)}
    if pause == 0 and not more:
        fields["logs_read_at"], pause = Now(), _pause(seen)
    return _outcome(row, phase, reason, message, after=0 if more else pause, fields=fields, chunks=chunks)


def _must_renew(row: Placement) -> bool:
    """Whether a quarter of the life of the addresses that it was given is over. A target that is asked for nothing
    but what it has takes them and goes on."""
    if row.grants_end_at is None or row.mutated_at is None or row.place.gone_at:
        return False
    return timezone.now() - row.mutated_at > (row.grants_end_at - row.mutated_at) / 4


def _pause(seen: Observed) -> float | None:
    """How often a target is asked for streams whose sizes it can't tell; None where there are none."""
    if None not in seen.log_bytes.values():
        return None
    seconds = STEADY_LOG_SECONDS if seen.state == "ready" else FAR_LOG_SECONDS
    return seconds * float(settings.WINDLASS_TIME_SCALE)


def _until_asked(row: Placement, seen: Observed) -> float | None:
    """Seconds until it is time to ask for them; 0: now."""
    pause = _pause(seen)
    if pause is None or row.logs_read_at is None:
        return pause if pause is None else 0.0
    return max(0.0, pause - (timezone.now() - row.logs_read_at).total_seconds())


def _meaning(row: Placement, seen: Observed) -> tuple[str, str, str]:
    """The phase, reason and message that an observation means."""
    if seen.state == "exited" and seen.exit:
        reason = seen.exit.failure or EXIT_REASONS.get(seen.exit.reason, "ProgramFailed")
        return CLEANING, reason, seen.exit.message or "It ended."
    if seen.state == "gone":
        return CLEANING, "Lost", "Its host no longer has it."
    if seen.state in {"running", "ready"}:
        return seen.state, seen.state.capitalize(), _crash_sentence(seen) or seen.message
    return row.phase, row.reason, _crash_sentence(seen) or seen.message or row.message


def _crash_sentence(seen: Observed) -> str:
    """What a replica that starts again and again says of itself."""
    for rank in seen.ranks:
        if rank.restarts and rank.message:
            times = "once" if rank.restarts == 1 else f"{rank.restarts} times"
            return f"Replica {rank.ordinal} ended {times}. {rank.message}"
    return ""


def cleaning(row: Placement, context: Context) -> Outcome:
    """Stop it, keep its logs and outputs, delete it, and only when it is sure to be gone free the reservation."""
    seen = row.seen
    if row.clear_asked_at is None and row.applied_generation == 0 and not row.place.gone_at:
        # No apply was ever answered, yet one may have arrived: the tombstone that delete leaves settles it.
        return _clear(row, context)
    if seen is None:
        return stay(row, after=2)
    if seen.state == "gone":
        context.record("release", lambda: _release_outputs(row))
        return _finished(row)
    if row.clear_asked_at is not None:
        return stay(row, after=2)
    if seen.state != "exited":
        return _stop(row, context)
    chunks, offsets, _more = _pull(row, seen)
    if chunks:
        fields = {"log_offsets": offsets, "ended": row.observed}
        return _outcome(row, CLEANING, row.reason, row.message, after=0, fields=fields, chunks=chunks)
    if row.ending != DELETED:
        context.record("outputs", lambda: _seal_outputs(row, seen))
    return _clear(row, context, {"ended": row.observed})


def _stop(row: Placement, context: Context) -> Outcome:
    if row.stop_asked_at is not None:
        return stay(row, after=2)
    target = targets.target_for(row.place)
    grace = DELETE_GRACE_SECONDS if row.goal == Goal.DELETE else row.wanted.grace_seconds
    _call(row, context, "stop", lambda: target.stop(row.place, row.outside_name, grace))
    return _outcome(
        row,
        CLEANING,
        row.reason,
        "Stopping, what it wrote is kept.",
        after=2,
        fields={"stop_asked_at": Now()},
        observe=True,
    )


def _clear(row: Placement, context: Context, fields: dict[str, Any] | None = None) -> Outcome:
    target = targets.target_for(row.place)
    _call(row, context, "delete", lambda: target.delete(row.place, row.outside_name))
    changes = {**(fields or {}), "clear_asked_at": Now(), "ready_ordinals": []}
    return _outcome(row, CLEANING, row.reason, row.message, after=2, fields=changes, observe=True)


def _finished(row: Placement) -> Outcome:
    deleted = row.ending == DELETED

    def also() -> None:
        Reservation.objects.filter(placement=row).delete()
        if deleted:
            LogChunk.objects.filter(placement=row).delete()
            PlacementBlob.objects.filter(placement=row).delete()

    reason, message = row.reason, row.message
    if row.ending == "cancelled":
        reason, message = "Stopped", "Stopped."
    return _outcome(row, row.ending, reason, message, fields={"ready_ordinals": []}, also=also)


def _apply(row: Placement, context: Context) -> datetime | None:
    """Returns when what it was granted ends, if it does."""
    workload = row.wanted
    grants = context.record("grants", lambda: targets.grants_for(row))
    secrets = {
        secret.name: unseal_field(secret, "sealed")
        for secret in Secret.objects.filter(workspace_id=row.workspace_id, name__in=workload.secrets)
    }
    if missing := sorted(set(workload.secrets) - set(secrets)):
        raise Refused(
            "SecretMissing", f"There is no secret “{missing[0]}” in this workspace. Add it, then start again."
        )
    target = targets.target_for(row.place)
    try:
        _call(row, context, "apply", lambda: target.apply(row.place, workload, row.generation, secrets, grants))
    except contract.Refused as error:
        raise Refused(error.reason, error.message) from error
    except contract.Conflict as error:
        raise Refused("RefusedByTarget", str(error)) from error
    return None if grants.ends_at is None else datetime.fromtimestamp(grants.ends_at, UTC)


def _call(row: Placement, context: Context, name: str, act: Callable[[], None]) -> None:
    """One change at the target; when it was answered, observations begun before that no longer count."""
    context.check()
    point(f"placement.{name}.before")
    try:
        act()
    except (contract.Unavailable, OSError) as error:
        raise Retry("TargetUnavailable", f"{row.place.name} did not take it: {error}. It is tried again.") from error
    point(f"placement.{name}.answered")
    context.record(name, lambda: Placement.objects.filter(pk=row.pk).update(mutated_at=Now()))


def _pull(row: Placement, seen: Observed, *, unknown: bool = True) -> tuple[list[LogChunk], dict[str, int], bool]:
    """New bytes of every stream, at most CHUNKS_A_STEP pieces; the offsets behind them; and whether there is more.

    `unknown`: of those too whose sizes nobody knows: they are read until nothing comes.
    A stream that can't be read at all is left out. Raises Retry where the target does not answer, so that no log is
    lost with the workload.
    """
    target = targets.target_for(row.place)
    offsets = dict(row.log_offsets)
    chunks: list[LogChunk] = []
    for stream, size in sorted(seen.log_bytes.items()):
        while unknown if size is None else offsets.get(stream, 0) < size:
            if len(chunks) == CHUNKS_A_STEP:
                return chunks, offsets, True
            try:
                chunk = target.logs(row.place, row.outside_name, stream, offsets.get(stream, 0), CHUNK_BYTES)
            except contract.Unavailable as error:
                if chunks:
                    return chunks, offsets, True
                words = f"{row.place.name} did not give its log: {error}. It is tried again."
                raise Retry("TargetUnavailable", words) from error
            except OSError:
                break
            if not chunk.data:
                break
            chunks.append(LogChunk(placement=row, stream=stream, offset=chunk.offset, data=chunk.data))
            offsets[stream] = chunk.next_offset
    return chunks, offsets, False


def _seal_outputs(row: Placement, seen: Observed) -> None:
    """What the program left becomes ready blobs; content that is there already is used instead."""
    for item in PlacementBlob.objects.filter(placement=row, way="out").select_related("blob"):
        stored = seen.outputs.get(item.name)
        if stored and item.blob.state != Blob.State.READY:
            blob = blobs.seal_output(item.blob, stored.sha256, stored.size_bytes)
            PlacementBlob.objects.filter(pk=item.pk).update(blob=blob)
            if blob.pk != item.blob_id:
                blobs.abandon(item.blob)


def _release_outputs(row: Placement) -> None:
    """What was never whole is taken back at once: nobody writes it any more, and a full disk needs the room."""
    unfinished = PlacementBlob.objects.filter(placement=row, way="out").exclude(blob__state=Blob.State.READY)
    for item in unfinished.select_related("blob"):
        item.delete()
        blobs.abandon(item.blob)


def _outcome(
    row: Placement,
    phase: str,
    reason: str,
    message: str,
    *,
    fields: dict[str, Any],
    after: float | None = None,
    ending: str | None = None,
    chunks: list[LogChunk] | None = None,
    also: Callable[[], None] | None = None,
    observe: bool = False,
) -> Outcome:
    """Write it, and wake whoever must know: the owner, the gateways of a service, the place if it must look."""
    fields = {name: value for name, value in fields.items() if getattr(row, name) != value}
    ready_changed = "ready_ordinals" in fields
    new_metrics = any(chunk.stream.startswith("metrics-") for chunk in chunks or ())
    tell_owner = phase != row.phase or ready_changed or new_metrics or message != row.message
    gateways = list(Gateway.objects.values_list("pk", flat=True)) if ready_changed else []

    def write() -> None:
        if chunks:
            LogChunk.objects.bulk_create(chunks)
        if also:
            also()
        if tell_owner:
            wake(row.owner_kind, [row.owner_id])
        if observe:
            wake("place", [row.place_id])
        if gateways:
            wake("gateway", gateways)

    locks: list[tuple[str, list[Any]]] = [("gateway", gateways)] if gateways else []
    if tell_owner:
        locks.append((row.owner_kind, [row.owner_id]))
    if observe:
        locks.append(("place", [row.place_id]))
    return Outcome(
        phase=phase, reason=reason, message=message, after=after, ending=ending, fields=fields, locks=locks, also=write
    )


RECONCILER = Reconciler(
    "placement",
    {"pending": pending, "starting": following, "running": following, "ready": following, CLEANING: cleaning},
)
