"""The engine: claim a due row, take one step, apply the outcome; and sweep for what is due.

Any process may die at any point. A claim counts a strike and makes the row due again behind the lease's end, so a
row whose worker was killed comes back by itself; an outcome is written only under the lease that it was made with.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Case, DateTimeField, ExpressionWrapper, F, Value, When
from django.db.models.functions import Now

from apps.core import hints
from apps.core.actor import WINDLASS
from apps.core.models import QUARANTINE_STRIKES, RESYNC_SECONDS, Goal, Managed
from apps.core.phases import CLEANING, DELETED
from apps.core.wants import lock, model_of, models_by_kind, notify, rows, tell
from workers.crashpoints import point

logger = logging.getLogger(__name__)
T = TypeVar("T")

LEASE_SECONDS = 60.0
MARGIN_SECONDS = 15.0
HINT_SECONDS = 30.0
SWEEP_LIMIT = 200
HOUR_SECONDS = 3600.0


class LeaseLost(Exception):
    """Too little of the lease is left, or another worker has it: drop everything, the next claim goes on."""


class Retry(Exception):
    """Not now, and nobody's fault: the row keeps its place and is tried again after a growing, jittered wait."""

    def __init__(self, reason: str, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.after = reason, message, after


class Refused(Exception):
    """A definite no: the row goes through `cleaning` to failed. `message` says what happened, why and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Outcome:
    """What a step wants written. `after`: seconds until the row is due again (None: at the next resync, or at once in
    a new phase).

    `also` runs inside the transaction, after the rows of `locks` (kind, ids) were locked in the agreed order.
    """

    phase: str
    reason: str = ""
    message: str = ""
    after: float | None = None
    ending: str | None = None
    progress: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    locks: Sequence[tuple[str, Sequence[UUID]]] = ()
    also: Callable[[], None] | None = None


@dataclass(frozen=True)
class Lease:
    row: Managed
    token: UUID
    wakes: int
    ends: float  # time.monotonic(), measured from before the claim was sent


class Context:
    """What a step may use besides its row: the lease, and a way to write under it."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease

    def check(self) -> None:
        """Before each outside mutation. Raises LeaseLost if another worker could have taken over before it ends."""
        if self.lease.ends - time.monotonic() < MARGIN_SECONDS * settings.WINDLASS_TIME_SCALE:
            raise LeaseLost

    def now(self) -> datetime:
        """The database's time."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (moment,) = cursor.fetchone()
        return moment

    def record(self, name: str, write: Callable[[], T]) -> T:
        """Commit `write` now, fenced by the lease: intents before a call, ids after it."""
        row = self.lease.row
        point(f"record.{row.kind}.{name}.before")
        with transaction.atomic():
            held = rows(type(row)).select_for_update(no_key=True).filter(pk=row.pk, lease_token=self.lease.token)
            if not held.exists():
                raise LeaseLost
            result = write()
        point(f"record.{row.kind}.{name}.after")
        return result


Step = Callable[[Any, Context], Outcome]


@dataclass(frozen=True)
class Reconciler:
    """One kind's steps, by phase. `service`: a stop is not an end, the steps see to it themselves."""

    kind: str
    steps: Mapping[str, Step]
    service: bool = False


def stay(row: Managed, *, after: float | None = None, **changes: Any) -> Outcome:
    """Nothing changes but what is named; reason and message are kept."""
    return Outcome(
        phase=row.phase,
        reason=changes.pop("reason", row.reason),
        message=changes.pop("message", row.message),
        after=after,
        ending=None,
        progress=changes.pop("progress", row.progress),
        **changes,
    )


def backoff(strikes: int) -> float:
    """Seconds: 1, 2, 4 ... at most 5 minutes, hourly once quarantined."""
    if strikes >= QUARANTINE_STRIKES:
        return HOUR_SECONDS
    return float(min(300, 2 ** max(0, strikes - 1))) * settings.WINDLASS_TIME_SCALE


def claim(kind: str, row_id: UUID | str) -> Lease | None:
    """Take the lease of a due row that nobody holds; None when there is nothing to do."""
    model = model_of(kind)
    table = connection.ops.quote_name(model._meta.db_table)
    seconds = LEASE_SECONDS * settings.WINDLASS_TIME_SCALE
    token = uuid4()
    begun = time.monotonic()
    found = list(
        model._default_manager.raw(
            f"""UPDATE {table} SET lease_token = %s, strikes = strikes + 1, hinted_at = NULL,
                  lease_expires_at = clock_timestamp() + %s * interval '1 second',
                  due_at = clock_timestamp() + interval '1 second' * (%s + CASE
                    WHEN strikes + 1 >= %s THEN %s ELSE least(300, power(2, strikes)) * %s END)
                WHERE id = %s AND due_at <= clock_timestamp()
                  AND (lease_expires_at IS NULL OR lease_expires_at < clock_timestamp())
                RETURNING *""",  # noqa: S608 - the table's name is our model's
            [token, seconds, seconds, QUARANTINE_STRIKES, HOUR_SECONDS, settings.WINDLASS_TIME_SCALE, str(row_id)],
        )
    )
    if not found:
        return None
    row = found[0]
    return Lease(row=row, token=token, wakes=row.wakes, ends=begun + seconds)


def reconcile(kind: str, row_id: UUID | str, reconcilers: Mapping[str, Reconciler]) -> bool:
    """Claim, step, apply. Returns whether anything was done. Never raises for what a step does."""
    lease = claim(kind, row_id)
    if lease is None:
        return False
    row = lease.row
    point(f"claimed.{kind}.{row.phase}")
    try:
        outcome, retried = _take_step(reconcilers[kind], lease)
        apply(lease, outcome, retried=retried)
    except LeaseLost:
        logger.info("%s: lease lost, dropped", row)
    except Exception:
        logger.exception("%s: step of phase %s failed, strike %d", row, row.phase, row.strikes)
        _strike(lease)
    return True


def _take_step(reconciler: Reconciler, lease: Lease) -> tuple[Outcome, bool]:
    """The step's outcome, and whether it only asked to be tried again."""
    row = lease.row
    try:
        return next_outcome(reconciler, row, Context(lease)), False
    except Retry as retry:
        wait = retry.after
        if wait is None:
            wait = backoff(row.retries + 1) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        return stay(row, after=wait, reason=retry.reason, message=retry.message), True
    except Refused as refused:
        return _refusal(row, refused), False


def _refusal(row: Managed, refused: Refused) -> Outcome:
    """A refusal ends the row as failed; while it cleans up already, it says so and keeps its ending."""
    if row.is_ending:
        return stay(row, after=HOUR_SECONDS / 60, reason=refused.reason, message=refused.message)
    return Outcome(phase=CLEANING, ending="failed", reason=refused.reason, message=refused.message, after=0)


def next_outcome(reconciler: Reconciler, row: Managed, context: Context) -> Outcome:
    """The divert to an ending, where the goal asks for one; else the phase's own step."""
    if row.goal == Goal.DELETE and row.phase != DELETED and row.ending != DELETED:
        return Outcome(phase=CLEANING, ending=DELETED, reason="Deleting", message="Being deleted.", after=0)
    if row.goal == Goal.STOP and not reconciler.service and not row.is_final and not row.is_ending:
        return Outcome(phase=CLEANING, ending="cancelled", reason="Cancelling", message="Being cancelled.", after=0)
    if row.is_final and row.phase not in reconciler.steps:
        return stay(row)
    return reconciler.steps[row.phase](row, context)


def apply(lease: Lease, outcome: Outcome, *, retried: bool = False) -> bool:
    """Write an outcome under its lease. False: the lease was lost and nothing was changed."""
    row = lease.row
    row.phases.check(row.phase, outcome.phase)
    forbidden = set(outcome.fields) & {"goal", "generation", "wakes", *row.spec_fields}
    if forbidden:
        raise TypeError(f"a step of {row.kind} may not write {sorted(forbidden)}")
    name = f"{row.kind}.{row.phase}.{outcome.phase}"
    point(f"apply.{name}.before")
    written = _repeat_on_deadlock(lambda: _apply(lease, outcome, retried))
    point(f"apply.{name}.after")
    if not written:
        logger.info("%s: a stale worker's outcome was dropped", row)
    return written


def _apply(lease: Lease, outcome: Outcome, retried: bool) -> bool:
    row = lease.row
    model = type(row)
    with transaction.atomic():
        wanted: list[tuple[int, str, list[UUID]]] = [(row.lock_rank, row.kind, [row.pk])]
        for kind, row_ids in outcome.locks:
            wanted.append((model_of(kind).lock_rank, kind, sorted(row_ids)))
        for _rank, kind, row_ids in sorted(wanted, key=lambda item: (item[0], item[1])):
            lock(model_of(kind), row_ids)
        if not rows(model).filter(pk=row.pk, lease_token=lease.token).exists():
            return False
        if outcome.also:
            outcome.also()
        final = row.phases[outcome.phase].final
        changed = outcome.phase != row.phase
        # A new phase looks at once: what it waits for may have come before this claim, and its wake is spent.
        at_latest = 0.0 if changed else RESYNC_SECONDS
        seconds = at_latest if outcome.after is None else min(outcome.after, HOUR_SECONDS)
        due: Any = Value(None) if final else _in_seconds(seconds)
        ending = outcome.ending if outcome.ending is not None else ("" if final else row.ending)
        shown = (
            outcome.phase != row.phase
            or (outcome.reason, outcome.message, outcome.progress) != (row.reason, row.message, row.progress)
            or bool(outcome.fields)
        )
        rows(model).filter(pk=row.pk).update(
            **outcome.fields,
            phase=outcome.phase,
            reason=outcome.reason,
            message=outcome.message,
            progress=outcome.progress,
            ending=ending,
            observed_generation=row.generation,
            version=F("version") + 1,
            strikes=0,
            retries=row.retries + 1 if retried else 0,
            hinted_at=None,
            lease_token=None,
            lease_expires_at=None,
            due_at=Case(When(wakes=lease.wakes, then=due), default=Now()),
            **({"phase_since": Now()} if changed else {}),
        )
        row.version += 1
        if changed or outcome.reason != row.reason:
            tell(row, WINDLASS, old=row.phase, new=outcome.phase, reason=outcome.reason, message=outcome.message)
        elif shown:
            notify(row)
        _hint_if_due(model, row)
    return True


def _in_seconds(seconds: float) -> Any:
    return ExpressionWrapper(Now() + Value(timedelta(seconds=seconds)), output_field=DateTimeField())


def _hint_if_due(model: type[Managed], row: Managed) -> None:
    if rows(model).filter(pk=row.pk, due_at__lte=Now()).exists():
        hints.hint(row.kind, str(row.pk), row.queue)


def _strike(lease: Lease) -> None:
    """A bug in a step: keep the phase, say so, and try again later; the strike was counted by the claim.

    What was wanted meanwhile is looked at now: a cancel may lead away from the step that fails.
    """
    row = lease.row
    quarantined = row.strikes >= QUARANTINE_STRIKES
    reason = "Quarantined" if quarantined else "InternalError"
    message = (
        f"Windlass failed {row.strikes} times in a row at this step and now tries once an hour. What runs goes on. "
        "The log has the reason; Retry in the admin console tries at once."
        if quarantined
        else "Windlass made a mistake at this step and tries again. What runs goes on; the log has the reason."
    )
    with transaction.atomic():
        held = rows(type(row)).filter(pk=row.pk, lease_token=lease.token)
        if not held.update(
            reason=reason,
            message=message,
            version=F("version") + 1,
            lease_token=None,
            lease_expires_at=None,
            due_at=Case(When(generation=row.generation, then=_in_seconds(backoff(row.strikes))), default=Now()),
        ):
            return
        row.version += 1
        if row.reason != reason:
            tell(row, WINDLASS, old=row.phase, new=row.phase, reason=reason, message=message)
        _hint_if_due(type(row), row)


def _repeat_on_deadlock(write: Callable[[], T]) -> T:
    for attempt in range(5):
        try:
            return write()
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") not in {"40P01", "40001"} or attempt == 4:
                raise
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - jitter
    raise AssertionError("unreachable")


def due(queue: str) -> list[tuple[str, str]]:
    """Stamp and return (kind, id) of rows of a queue that are due, unleased and not hinted lately."""
    found: list[tuple[str, str]] = []
    with connection.cursor() as cursor:
        for kind, model in models_by_kind().items():
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(
                f"""UPDATE {table} SET hinted_at = now() WHERE id IN (
                      SELECT id FROM {table} WHERE queue = %s AND due_at <= now()
                        AND (lease_expires_at IS NULL OR lease_expires_at < now())
                        AND (hinted_at IS NULL OR hinted_at < now() - %s * interval '1 second')
                      ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
                    RETURNING id""",  # noqa: S608 - the table's name is our model's
                [queue, HINT_SECONDS * settings.WINDLASS_TIME_SCALE, SWEEP_LIMIT],
            )
            found += [(kind, str(row_id)) for (row_id,) in cursor.fetchall()]
    return found


def sweep(queue: str, run: Callable[[str, str], Any]) -> int:
    """Publish what is due; where publishing fails, `run` it here, so that a dead broker slows and stops nothing."""
    found = due(queue)
    broker_answers = True
    for kind, row_id in found:
        if broker_answers:
            try:
                hints.publish(kind, row_id, queue)
                continue
            except Exception as error:  # whatever the broker's client raises: it is away
                logger.warning("the broker does not answer (%s); running %d rows here", error, len(found))
                broker_answers = False
        run(kind, row_id)
    return len(found)


def next_due_seconds(queue: str, at_most: float) -> float:
    """How long until the next row of this queue is due: at least 0.05 and at most `at_most` seconds."""
    tables = [connection.ops.quote_name(model._meta.db_table) for model in models_by_kind().values()]
    earliest = ", ".join(
        f"(SELECT min(due_at) FROM {table} WHERE queue = %s AND lease_token IS NULL AND hinted_at IS NULL)"  # noqa: S608 - as above
        for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT extract(epoch FROM least({earliest}) - clock_timestamp())", [queue] * len(tables))  # noqa: S608
        (seconds,) = cursor.fetchone()
    return at_most if seconds is None else max(0.05, min(at_most, float(seconds)))
