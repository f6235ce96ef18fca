"""`graph.py` against a cloud in memory that does all that clouds do wrong: seeded lives, no database.

One seed again: `SEED=1234 pytest tests/providers/test_graph_simulation.py`; more of them: `SEEDS=20000 pytest ...`.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workers.providers import graph
from workers.providers.contract import Account, NotYet, Refusal, Resource, Seen, Throttled, Unclear

SEEDS = int(os.environ.get("SEEDS", "400"))
GRACE = timedelta(seconds=90)
LATEST_SECONDS, HIDDEN_SECONDS = 20.0, 30.0
START = datetime(2026, 1, 1, tzinfo=UTC)
RESOURCES = (
    Resource("network", "network", "A network"),
    Resource("role", "role", "A role"),
    Resource("firewall", "firewall", "A firewall", ("network",)),
    Resource("link", "link", "A link", ("network", "firewall"), repeatable=True, known_id="{network}/{firewall}"),
    Resource("machine-0", "machine", "A machine", ("network", "role", "link"), repeatable=True),
    Resource("machine-1", "machine", "A machine", ("network", "role", "link", "machine-0"), repeatable=True),
)


class Killed(BaseException):
    """The worker."""


@dataclass(eq=False)
class Line:
    key: str
    kind: str
    attempt: int
    name: str
    token: str
    cloud_id: str = ""
    state: str = "intent"
    seen: dict[str, Any] = field(default_factory=dict)
    seen_at: datetime | None = None
    mutated_at: datetime | None = None
    misses: int = 0
    gone: bool = False


@dataclass
class Thing:
    kind: str
    token: str
    at: float
    hidden_until: float
    ended: bool = False


class World:
    """The clock, the cloud, the ledger and the faults of one seed. Faults stop at `calm`, so that it must converge."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now, self.calm, self.wanted = 0.0, 400.0, True
        self.things: dict[str, Thing] = {}
        self.numbers = itertools.count(1)
        self.lines: list[Line] = []
        self.worst: list[str] = []

    def chance(self, share: float) -> bool:
        return self.now < self.calm and self.random.random() < share

    def time(self) -> datetime:
        self.now += 0.001
        return START + timedelta(seconds=self.now)

    # the ledger

    def check(self) -> None:
        self.maybe_die()

    def maybe_die(self) -> None:
        if self.chance(0.04):
            raise Killed

    def intend(self, resource: Resource, attempt: int, cloud_id: str) -> Line:
        token = f"t{next(self.numbers)}"
        line = Line(resource.key, resource.kind, attempt, f"{resource.key}-{attempt}", token, cloud_id)
        assert (line.key, attempt) not in {(item.key, item.attempt) for item in self.lines}
        self.lines.append(line)
        self.maybe_die()
        return line

    def write(self, row: Any, *, answered: bool = False, **changes: Any) -> None:
        self.maybe_die()
        if answered:
            row.mutated_at, row.misses = self.time(), 0
        for name, value in changes.items():
            setattr(row, name, value)
        self.maybe_die()

    def forget(self, row: Any) -> None:
        self.maybe_die()
        self.lines.remove(row)

    # the cloud

    def create(self, account: Any, resource: Resource, name: str, needs: Mapping[str, Seen], token: str) -> str:
        self.now += self.random.random()
        self._say_no(resource)
        after = 0.0
        unclear = self.chance(0.2)
        if unclear:
            if self.random.random() < 0.5:
                raise Unclear("it did not act")
            after = self.random.random() * LATEST_SECONDS
        same = token if resource.repeatable else None
        cloud_id = resource.known_id.format(**{key: seen.cloud_id for key, seen in needs.items()})
        if not cloud_id:
            there = [one for one, thing in self.things.items() if same and thing.token == token]
            cloud_id = there[0] if there else f"{resource.key}/{next(self.numbers)}"
        if cloud_id not in self.things or (self.things[cloud_id].ended and resource.known_id):
            at = self.now + after
            hidden = at + (self.random.random() * HIDDEN_SECONDS if self.now < self.calm else 0)
            self.things[cloud_id] = Thing(resource.kind, token, at, hidden)
        if unclear:
            raise Unclear("it acts after all")
        return cloud_id

    def _say_no(self, resource: Resource | None) -> None:
        if self.chance(0.05):
            raise Throttled("slowly")
        if self.chance(0.05):
            raise NotYet("not known yet")
        if resource is not None and self.chance(0.01):
            raise Refusal("NoCapacity", "there is none")

    def remove(self, account: Any, kind: str, cloud_id: str, facts: Mapping[str, Any]) -> bool:
        self.now += self.random.random()
        self._say_no(None)
        if self.chance(0.05):
            raise Refusal("NotPermitted", "no")
        thing = self.things.get(cloud_id)
        unclear = self.chance(0.2)
        if unclear and self.random.random() < 0.5:
            raise Unclear("it did not act")
        if thing is None or thing.ended or thing.at > self.now:
            return False
        if self.chance(0.2) and thing.hidden_until > self.now:
            return False  # the cloud does not know yet what it has made
        thing.ended = True
        if unclear:
            raise Unclear("it acted")
        return True

    def look(self) -> None:
        """All kinds; now and then a thing that is there is left out, as clouds of many copies do."""
        for kind in {resource.kind for resource in RESOURCES}:
            began = self.time()
            seen = {}
            for cloud_id, thing in self.things.items():
                if thing.kind != kind or max(thing.at, thing.hidden_until) > self.now or self.chance(0.03):
                    continue
                if thing.ended and kind != "machine":
                    continue
                token = "" if kind == "link" else thing.token
                seen[cloud_id] = Seen(cloud_id, token, "gone" if thing.ended else "live")
            by_token = {found.token: found for found in seen.values() if found.token}
            unknown = dict(seen)
            for line in [line for line in self.lines if line.kind == kind and line.state != "gone"]:
                found = graph.found_of(line, seen, by_token)
                if found:
                    unknown.pop(found.cloud_id, None)
                for name, value in graph.notice(line, found, began).items():
                    setattr(line, name, value)
            assert not [found for found in unknown.values() if found.token and found.health != "gone"], "a stray"

    # what must hold at any time

    def inspect(self) -> None:
        living: dict[str, int] = {}
        for cloud_id, thing in self.things.items():
            if thing.kind == "machine" and not thing.ended and thing.at <= self.now:
                key = cloud_id.split("/")[0]
                living[key] = living.get(key, 0) + 1
        assert all(number == 1 for number in living.values()), f"two machines for one key: {living}"


def step(world: World, executor: graph.Executor) -> graph.Progress | None:
    try:
        return executor.advance(list(world.lines), world.wanted)
    except (Killed, Throttled):
        return None
    except Refusal:
        world.wanted = False
        return None


def live(seed: int) -> World:
    world = World(seed)
    account = Account({}, "r", "i")
    cloud: Any = world
    executor = graph.Executor(cloud, account, RESOURCES, world, GRACE, seconds=30, clock=lambda: world.now)
    stops_at = world.random.choice([20.0, 60.0, 150.0, 600.0])
    progress = None
    for _turn in range(2000):
        if world.now > stops_at:
            world.wanted = False
        if world.chance(0.02):
            for thing in world.things.values():
                if thing.kind in {"machine", "role"} and world.chance(0.3) and thing.at <= world.now:
                    thing.ended = True  # by hand, or preempted
        progress = step(world, executor)
        world.inspect()
        world.now += 2.0
        world.look()
        if not world.wanted and progress is not None and progress.done and world.now > world.calm:
            break
    assert progress and progress.done, f"stuck: {world.lines}"
    return world


def seeds() -> list[int]:
    return [int(os.environ["SEED"])] if "SEED" in os.environ else list(range(SEEDS))


def test_no_life_doubles_leaks_or_hangs() -> None:
    attempts = 0
    for seed in seeds():
        try:
            world = live(seed)
        except AssertionError as error:
            raise AssertionError(f"SEED={seed}: {error}") from error
        left = [cloud_id for cloud_id, thing in world.things.items() if not thing.ended]
        assert left == [], f"SEED={seed} leaks {left}"
        assert all(line.state == "gone" for line in world.lines), f"SEED={seed}: the ledger is open"
        attempts += sum(line.attempt > 1 for line in world.lines)
    assert attempts > 0 or len(seeds()) == 1


def test_without_faults_all_is_made_in_order() -> None:
    world = World(0)
    world.calm = 0
    cloud: Any = world
    executor = graph.Executor(cloud, Account({}, "r", "i"), RESOURCES, world, GRACE, clock=lambda: world.now)
    for _turn in range(20):
        if executor.advance(world.lines, True).done:
            break
        world.now += 2
        world.look()
    assert [line.key for line in world.lines] == [
        "network", "role", "firewall", "link", "machine-0", "machine-1",
    ]  # fmt: skip
    assert {line.state for line in world.lines} == {"live"}


@pytest.mark.parametrize("shown", [True, False])
def test_a_time_out_buys_no_second_machine(shown: bool) -> None:
    """Of what is not repeatable: nothing is sent again before a look shows it, or its absence is sure."""
    calls: list[str] = []

    class Slow(World):
        def create(self, account: Any, resource: Resource, name: str, needs: Any, token: str) -> str:
            calls.append(token)
            if len(calls) > 1:
                return super().create(account, resource, name, needs, token)
            if shown:
                super().create(account, resource, name, needs, token)
            raise Unclear("time is up")

    world = Slow(0)
    world.calm = 0
    cloud: Any = world
    only = (RESOURCES[0],)
    executor = graph.Executor(cloud, Account({}, "r", "i"), only, world, GRACE, clock=lambda: world.now)
    ends = 0.0
    while not executor.advance(world.lines, True).done:
        assert world.now < 300
        world.now += 2
        world.look()
        ends = world.now
    assert len(world.things) == 1
    assert (len(calls), ends < 10) == ((1, True) if shown else (2, False))
    assert ends > GRACE.total_seconds() or shown
