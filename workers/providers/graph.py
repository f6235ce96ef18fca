"""A cluster as a graph of resources: what to do next, and doing it, one call at a time. The same for every cloud.

A row of the ledger is committed before the call that makes its resource, so nothing is ever made that no row knows.
What became of a call is learnt by looking: a look counts only if it began after the row's last change was answered or
given up. An unclear answer never buys a second one: the row stays `intent` until a look shows its token, or until so
many looks over so long a time did not show it that it can't be there. The next attempt, with a new token, comes only
after a definite refusal or such a confirmed absence. Nothing here knows Django: rows and ledger are given.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from workers.crashpoints import point
from workers.providers.contract import Account, NotYet, Provider, Refusal, Resource, Seen, Throttled, Unclear

logger = logging.getLogger(__name__)

GRACE_SECONDS = 90.0  # clouds may hide what they have just made for up to a minute
MISSES = 3
MISSES_OF_REMOVED = 2
CALLS = frozenset({"create", "send", "remove"})
INTENT, LIVE, DELETING, GONE = "intent", "live", "deleting", "gone"

Standing = Literal["unknown", "pending", "live", "stopping", "failed", "gone"]
Verb = Literal["create", "send", "settle", "adopt", "close", "remove"]


class Row(Protocol):
    """A line of the ledger, as `apps.clusters.models.CloudResource` has it."""

    key: Any
    kind: Any
    attempt: Any
    name: Any
    token: Any
    cloud_id: Any
    state: Any
    seen: Any
    seen_at: Any
    mutated_at: Any
    misses: Any


class Ledger(Protocol):
    """Where rows are kept. Each method has committed when it returns, and raises when the right to write is lost."""

    def check(self) -> None:
        """Before each call of the cloud: raises unless enough time is left to record its answer."""

    def intend(self, resource: Resource, attempt: int, cloud_id: str) -> Row: ...

    def write(self, row: Row, *, answered: bool = False, **changes: Any) -> None:
        """`answered`: a call that changed it was answered or given up just now; what was missed before is void."""

    def forget(self, row: Row) -> None:
        """Remove an intent whose only call did definitely nothing."""


@dataclass(frozen=True)
class Act:
    verb: Verb
    resource: Resource | None = None
    row: Row | None = None
    attempt: int = 1


@dataclass
class Plan:
    """`done`: all is as wanted. `waits`: kinds whose looks are awaited. `lost`: rows of what ended by itself."""

    acts: list[Act] = field(default_factory=list)
    waits: set[str] = field(default_factory=set)
    lost: list[Row] = field(default_factory=list)
    done: bool = True


@dataclass
class Progress:
    """What one `advance` came to. `blocked`: refusals of removals. `unclear`, `not_yet`: what the cloud said of those.
    `more`: there is more to do at once; `soon`: in a moment, without a look."""

    done: bool = False
    waits: set[str] = field(default_factory=set)
    lost: list[Row] = field(default_factory=list)
    blocked: list[tuple[Row, Refusal]] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    not_yet: list[str] = field(default_factory=list)
    more: bool = False
    soon: bool = False


# --- what is known of a row ---------------------------------------------------------------------------------------


def standing(row: Row, grace: timedelta) -> Standing:
    """What counts of what was seen; "unknown" until a look begun after the last change says something for sure."""
    if row.seen_at is None or (row.mutated_at is not None and row.seen_at <= row.mutated_at):
        return "unknown"
    if not row.misses:
        return row.seen["health"]
    removed = row.state == DELETING and row.seen.get("removed") and row.seen.get("health")
    if removed:
        return "gone" if row.misses >= MISSES_OF_REMOVED else "unknown"
    missed_for = row.seen_at - datetime.fromisoformat(row.seen["missing_since"])
    return "gone" if row.misses >= MISSES and missed_for >= grace else "unknown"


def notice(row: Row, found: Seen | None, began: datetime) -> dict[str, Any]:
    """What a complete look that began then changes in a row that it should have shown; {} for nothing."""
    if row.mutated_at is not None and began <= row.mutated_at:
        return {}
    if row.seen_at is not None and began <= row.seen_at:
        return {}
    if found is not None:
        seen: dict[str, Any] = {"cloud_id": found.cloud_id, "health": found.health, "facts": dict(found.facts)}
        if row.seen.get("removed") and found.health == "stopping":
            seen |= {"removed": True}
        counts = row.seen_at is not None and (row.mutated_at is None or row.seen_at > row.mutated_at)
        if counts and not row.misses and seen == row.seen:
            return {}
        return {"seen": seen, "seen_at": began, "misses": 0}
    if row.state == INTENT and row.mutated_at is None:
        return {}  # its call may be on its way: that it is not there yet means nothing
    seen = row.seen if row.misses else {**row.seen, "missing_since": began.isoformat()}
    return {"seen": seen, "seen_at": began, "misses": row.misses + 1}


def found_of(row: Row, by_id: Mapping[str, Seen], by_token: Mapping[str, Seen]) -> Seen | None:
    """By its id where that is known, else by the token that its create call carried."""
    if row.cloud_id:
        return by_id.get(row.cloud_id)
    return by_token.get(row.token)


def settled(row: Row) -> bool:
    """Nothing is expected of it: a look now and then is enough."""
    counts = row.seen_at is not None and (row.mutated_at is None or row.seen_at > row.mutated_at)
    return row.state == GONE or (row.state == LIVE and counts and not row.misses and row.seen.get("health") == "live")


# --- what to do next ----------------------------------------------------------------------------------------------


def plan(resources: Sequence[Resource], rows: Sequence[Row], wanted: bool, grace: timedelta) -> Plan:
    """The next acts that lead to all of it (`wanted`), or to nothing of it. Pure."""
    by_key: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.attempt):
        by_key.setdefault(row.key, []).append(row)
    made = Plan()
    if not wanted:
        _plan_removals(made, resources, [row for row in rows if row.state != GONE], grace)
        return made
    live = {key for key, attempts in by_key.items() if _is_live(attempts[-1], grace)}
    for resource in resources:
        attempts = by_key.get(resource.key, [])
        for row in attempts[:-1]:
            if row.state != GONE:  # given up once, and there after all
                _plan_removal(made, row, grace)
        _plan_making(made, resource, attempts[-1] if attempts else None, live, grace)
    return made


def _is_live(row: Row, grace: timedelta) -> bool:
    return row.state == LIVE and standing(row, grace) == "live"


def _plan_making(made: Plan, resource: Resource, row: Row | None, live: set[str], grace: timedelta) -> None:
    if resource.key in live:
        return
    made.done = False
    can_be_made = live.issuperset(resource.needs)
    if row is None or row.state == GONE:
        if can_be_made:
            made.acts.append(Act("create", resource, attempt=row.attempt + 1 if row else 1))
    elif row.state == DELETING:
        _plan_removal(made, row, grace)
    elif row.state == INTENT:
        if _plan_intent(made, row, grace) and resource.repeatable and can_be_made:
            made.acts.append(Act("send", resource, row))
    else:
        how = standing(row, grace)
        if how in {"stopping", "failed", "gone"}:
            made.lost.append(row)
        if how == "gone":
            made.acts.append(Act("close", row=row))
        else:  # a machine that was stopped may be started again
            made.waits.add(row.kind)


def _plan_intent(made: Plan, row: Row, grace: timedelta) -> bool:
    """Of a row whose create call was never answered. True: its call is over, and nothing is known of it yet."""
    if row.seen_at is not None and not row.misses and row.seen.get("health"):
        made.acts.append(Act("adopt", row=row))
    elif row.mutated_at is None:
        made.acts.append(Act("settle", row=row))
    elif standing(row, grace) == "gone":
        made.acts.append(Act("close", row=row))
    else:
        made.waits.add(row.kind)
        return True
    return False


def _plan_removals(made: Plan, resources: Sequence[Resource], rows: Sequence[Row], grace: timedelta) -> None:
    needed_by: dict[str, set[str]] = {}
    for resource in resources:
        for key in resource.needs:
            needed_by.setdefault(key, set()).add(resource.key)
    there = {row.key for row in rows}
    order = {resource.key: number for number, resource in enumerate(resources)}
    made.done = not rows
    for row in sorted(rows, key=lambda row: -order.get(row.key, len(order))):
        if row.state == INTENT or not needed_by.get(row.key, set()) & there:
            _plan_removal(made, row, grace)


def _plan_removal(made: Plan, row: Row, grace: timedelta) -> None:
    made.done = False
    if row.state == INTENT:
        _plan_intent(made, row, grace)
        return
    how = standing(row, grace)
    if how == "gone":
        made.acts.append(Act("close", row=row))
    elif how in {"live", "pending", "failed"}:
        made.acts.append(Act("remove", row=row))
    else:
        made.waits.add(row.kind)


# --- doing it -----------------------------------------------------------------------------------------------------


@dataclass
class Executor:
    """Takes a cluster's next acts: one call each, its intent committed before and its answer after.

    `grace`: how long a thing must be missed. `attempts`: of each resource at most. `seconds`: no call is begun later
    than that after the start.
    """

    provider: Provider
    account: Account
    resources: Sequence[Resource]
    ledger: Ledger
    grace: timedelta
    attempts: int | None = None
    seconds: float = 12.0
    clock: Callable[[], float] = time.monotonic

    def advance(self, rows: Iterable[Row], wanted: bool) -> Progress:
        """Raises Refusal where what is wanted can't be made, Throttled, and what the ledger raises."""
        known, called = list(rows), set[str]()
        ends = self.clock() + self.seconds
        progress = Progress()
        while True:
            made = plan(self.resources, known, wanted, self.grace)
            progress.done, progress.waits = made.done, made.waits
            for row in made.lost:
                if row not in progress.lost:
                    progress.lost.append(row)
            acts = [
                act for act in made.acts if act.verb in {"settle", "adopt", "close"} or self._key(act) not in called
            ]
            if not acts:
                return progress
            for act in acts:
                if self.clock() > ends:
                    progress.more = True
                    return progress
                if act.verb in CALLS:
                    called.add(self._key(act))
                self._take(act, known, progress)

    def _key(self, act: Act) -> str:
        if act.row is not None:
            return f"{act.row.key}.{act.row.attempt}"
        assert act.resource
        return f"{act.resource.key}.{act.attempt}"

    def _take(self, act: Act, known: list[Row], progress: Progress) -> None:
        if act.verb == "create":
            assert act.resource
            self._create(act.resource, act.attempt, known, progress)
            return
        row = act.row
        assert row
        if act.verb == "send":
            assert act.resource
            self._call_create(act.resource, row, known, progress, first=False)
        elif act.verb == "settle":
            self.ledger.write(row, answered=True)
        elif act.verb == "adopt":
            self.ledger.write(row, state=LIVE, cloud_id=row.seen["cloud_id"])
        elif act.verb == "close":
            self.ledger.write(row, state=GONE)
        else:
            self._remove(row, progress)

    def _create(self, resource: Resource, attempt: int, known: list[Row], progress: Progress) -> None:
        if self.attempts is not None and attempt > self.attempts:
            raise Refusal(
                "KeepsVanishing",
                f"{resource.what} was made {self.attempts} times and was gone again each time. Somebody or something "
                "removes it: look at who may do so in this account, then start a new cluster.",
            )
        self.ledger.check()
        ids = {key: seen.cloud_id for key, seen in self._needs(resource, known).items()}
        row = self.ledger.intend(resource, attempt, resource.known_id.format(**ids))
        known.append(row)
        self._call_create(resource, row, known, progress, first=True)

    def _call_create(self, resource: Resource, row: Row, known: list[Row], progress: Progress, first: bool) -> None:
        """`first`: no call for this row was sent before, so a definite no means that there is nothing."""
        self.ledger.check()
        point("cloud.create.before")
        try:
            cloud_id = self.provider.create(self.account, resource, row.name, self._needs(resource, known), row.token)
        except Unclear as error:
            point("cloud.create.unclear")
            logger.info("creating %s: unclear: %s", row.name, error)
            progress.unclear.append(f"{resource.what}: {error}")
            progress.soon = True
            self.ledger.write(row, answered=True)
            return
        except Refusal:
            if first:
                self.ledger.write(row, answered=True, state=GONE)
            else:
                self.ledger.write(row, answered=True)
            raise
        except NotYet as error:
            logger.info("creating %s: not yet: %s", row.name, error)
            progress.not_yet.append(f"{resource.what}: {error}")
            progress.soon = True
            self._nothing_done(row, known, first)
            return
        except Throttled:
            self._nothing_done(row, known, first)
            raise
        point("cloud.create.answered")
        self.ledger.write(row, answered=True, state=LIVE, cloud_id=cloud_id)

    def _nothing_done(self, row: Row, known: list[Row], first: bool) -> None:
        if first:
            self.ledger.forget(row)
            known.remove(row)

    def _remove(self, row: Row, progress: Progress) -> None:
        if row.state != DELETING:
            self.ledger.write(row, state=DELETING)
        self.ledger.check()
        point("cloud.remove.before")
        try:
            accepted = self.provider.remove(self.account, row.kind, row.cloud_id, row.seen.get("facts", {}))
        except Unclear as error:
            point("cloud.remove.unclear")
            progress.unclear.append(f"{row.name}: {error}")
            self.ledger.write(row, answered=True)
            return
        except Refusal as refusal:
            progress.blocked.append((row, refusal))
            progress.soon = True
            return
        except NotYet:
            progress.soon = True
            return
        point("cloud.remove.answered")
        self.ledger.write(row, answered=True, seen={**row.seen, "removed": True} if accepted else row.seen)

    def _needs(self, resource: Resource, known: Sequence[Row]) -> dict[str, Seen]:
        newest = {row.key: row for row in sorted(known, key=lambda row: row.attempt)}
        return {
            key: Seen(row.cloud_id, row.token, row.seen["health"], row.seen.get("facts", {}))
            for key, row in newest.items()
            if key in resource.needs
        }
