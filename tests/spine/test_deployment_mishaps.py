"""A deployment over several places through random mishaps and wishes: nobody who is listed is ever stopped, somebody
answers at every moment, and in the end all is as wanted and nothing else stands.

A seed that fails: `PLACES_SEED=<n> .venv/bin/python -m pytest tests/spine/test_deployment_mishaps.py`; `PLACES_SEEDS`
is how many are tried.
"""

from __future__ import annotations

import os
import random
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.deployments.models import Deployment
from apps.placements.models import Place, Placement, Reservation
from tests.spine.conftest import World
from tests.spine.sites import Sites
from workers import targets

NAMES = ("near", "far", "cloud")
STEPS = 12
SEEDS = (
    [int(os.environ["PLACES_SEED"])] if "PLACES_SEED" in os.environ else range(int(os.environ.get("PLACES_SEEDS", 3)))
)


class Mishaps:
    def __init__(self, sites: Sites, row: Deployment, dice: random.Random) -> None:
        self.sites, self.row, self.dice = sites, row, dice
        self.lost: set[str] = set()
        self.told: list[str] = []

    def one(self) -> None:
        acts = [self.lose, self.bring_back, self.silence, self.hold, self.let_go, self.lag, self.move, self.move]
        self.told.append(self.dice.choice(acts)())

    def lose(self) -> str:
        name = self.dice.choice(("near", "far"))
        if not self.lost:
            self.lost.add(name)
            self.sites.lose(name)
        return f"lose {sorted(self.lost)}"

    def bring_back(self) -> str:
        for name in sorted(self.lost):
            self.sites.bring_back(name)
        back, self.lost = sorted(self.lost), set()
        return f"bring back {back}"

    def silence(self) -> str:
        """The cluster's API goes away, for long; or answers again."""
        site = self.sites["cloud"]
        site.silent = not site.silent
        self.sites.look("cloud")
        for _ in range(5):
            self.sites.world.beat()
        ago = timezone.now() - timedelta(seconds=self.dice.choice((1, 60)))
        Place.objects.filter(cluster__isnull=False, phase="unreachable").update(phase_since=ago)
        return f"the cluster's API is {'away' if site.silent else 'there'}"

    def lag(self) -> str:
        """The gateway takes nothing new for a while."""
        queues = self.sites.world.queues
        if "gateway" in queues:
            queues.remove("gateway")
        else:
            queues.append("gateway")
        return f"the gateway {'answers' if 'gateway' in queues else 'lags'}"

    def hold(self) -> str:
        name = self.dice.choice(NAMES)
        self.sites[name].held = True
        return f"nothing gets ready on {name}"

    def let_go(self) -> str:
        name = self.dice.choice(NAMES)
        self.sites[name].let_go()
        self.sites.look(name)
        return f"{name} gets ready"

    def move(self) -> str:
        some = self.dice.sample(NAMES, self.dice.randint(0, 3))
        spec = self.sites.spread(**{name: (self.dice.randint(1, 3), self.dice.choice((1, 50, 100))) for name in some})
        if not some:
            spec = {"spread": [], "replicas": self.dice.randint(1, 3)}
        spec["revision"] = self.dice.choice((1, 2))
        self.sites.change(self.row, **spec)
        return f"want r{spec['revision']} on {some}: {spec['replicas']}"

    def heal(self) -> None:
        self.bring_back()
        self.sites.world.queues = sorted({*self.sites.world.queues, "gateway"})
        for name in NAMES:
            self.sites[name].silent = False
            self.sites[name].let_go()
            self.sites.look(name)


@pytest.mark.parametrize("seed", SEEDS)
def test_mishaps(world: World, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    sites = Sites(world)
    monkeypatch.setattr(targets, "target_for", sites.target_for)
    row = sites.deploy(**sites.spread(near=(2, 50), cloud=(1, 50)))
    sites.settled(row, answers=False)
    mishaps = Mishaps(sites, row, random.Random(seed))
    try:
        for _ in range(STEPS):
            mishaps.one()
            ends = time.monotonic() + mishaps.dice.choice((0.0, 0.1, 0.6))
            sites.until(row, lambda: time.monotonic() > ends)  # noqa: B023 - it ends within this turn
        mishaps.heal()
        sites.settled(row)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(mishaps.told)) from error
    wanted = {entry["place"]: (entry["replicas"], entry["weight"]) for entry in row.spread}
    found = {
        Placement.objects.get(pk=item["placement"]).place.typed_id: (len(item["ordinals"]), item["weight"])
        for item in row.listing
    }
    assert found == wanted if row.spread else list(found.values()) == [(row.replicas, 100)]
    world.until(lambda: Reservation.objects.count() == len(row.listing), 15)
    assert sum(len(site.running) for site in sites.by_place.values()) == len(row.listing)
