"""What a deployment stands on: one part for each place that is wanted, and all the rest that lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from apps.core import ids
from apps.core.models import Goal
from apps.deployments.models import Deployment, Gateway
from apps.placements import services
from apps.placements.models import Place, Placement
from apps.placements.workload import Resources

# A place that misses one look is not away yet.
AWAY_SECONDS = 15.0


@dataclass(frozen=True)
class Wanted:
    """`replicas` of the wanted revision, on `place` alone (None: on one place, wherever there is room)."""

    slot: str
    replicas: int
    weight: int = 100
    place: UUID | None = None


@dataclass(frozen=True)
class Part:
    """`current`: the placement that is what is wanted; None: it has to be made. `place`: the row of the one place.

    `away`: its place gives no answer, so that what is not ready there does not become so.
    """

    wanted: Wanted
    current: Placement | None
    place: Place | None
    away: bool

    @property
    def ready(self) -> list[int]:
        """The ordinals of those that are wanted and ready."""
        ready = self.current.ready_ordinals if self.current else []
        return sorted(ordinal for ordinal in ready if ordinal < self.wanted.replicas)

    @property
    def full(self) -> bool:
        return len(self.ready) >= self.wanted.replicas

    @property
    def key(self) -> str:
        """What the list of the gateway knows it by."""
        return str(self.current.pk) if self.current else ""

    @property
    def place_name(self) -> str:
        place = self.current.place if self.current else self.place
        return place.name if place else "a place that is gone"


@dataclass(frozen=True)
class View:
    """A deployment as it stands. `others`: what lives besides the parts' placements. `applied`: every gateway is known
    to route by its present list."""

    parts: list[Part]
    others: list[Placement]
    applied: bool

    @cached_property
    def ready(self) -> int:
        return sum(len(part.ready) for part in self.parts)

    @property
    def wanted(self) -> int:
        return sum(part.wanted.replicas for part in self.parts)


def wanted_parts(row: Deployment) -> list[Wanted]:
    """From `spread`; an empty one is one part without a place of its own."""
    if not row.spread:
        return [Wanted(f"r{row.revision}/local", row.replicas)]
    return [
        Wanted(
            slot=f"r{row.revision}/{item['place']}",
            replicas=item["replicas"],
            weight=item["weight"],
            place=ids.parse(Place.prefix, item["place"]),
        )
        for item in row.spread
    ]


def view(row: Deployment, now: Callable[[], datetime]) -> View:
    """A placement is a part's whatever its slot, if revision, size and place are those wanted: so that nothing is
    started anew where only the spread is said in another way."""
    living = [item for item in services.of_owner(row.pk) if not item.is_final]
    fitting = [item for item in living if is_wanted_kind(row, item) and is_well(item)]
    listed = {item["placement"] for item in row.listing}
    wanted = wanted_parts(row)
    pinned = [item.place for item in wanted if item.place]
    places = {place.pk: place for place in Place.objects.select_related("host", "cluster").filter(pk__in=pinned)}
    parts = []
    for item in wanted:
        found = [placement for placement in fitting if item.place in {None, placement.place_id}]
        best = max(found, key=lambda one: (str(one.pk) in listed, one.wanted.replicas, one.pk), default=None)
        place = best.place if best else places.get(item.place) if item.place else None
        parts.append(Part(item, best, place, bool(place and is_away(place, now))))
    current = {part.key for part in parts}
    return View(parts, [item for item in living if str(item.pk) not in current], is_applied(row))


def is_wanted_kind(row: Deployment, placement: Placement) -> bool:
    """Of the wanted revision, and of the wanted size."""
    workload = placement.wanted
    revision = placement.slot.partition("/")[0]
    return revision == f"r{row.revision}" and workload.resources == Resources(row.cpus, row.memory_bytes)


def is_lost(placement: Placement) -> bool:
    """Nobody at its host answers, or ever will: it is replaced, and never waited for."""
    return bool(placement.place.lost_at or placement.place.gone_at)


def is_well(placement: Placement) -> bool:
    return placement.goal == Goal.RUN and not placement.is_ending and not is_lost(placement)


def is_away(place: Place, now: Callable[[], datetime]) -> bool:
    """Whether a place that is not lost has given no answer for a while. What runs there may well go on."""
    return place.phase == "unreachable" and now() - place.phase_since > timedelta(seconds=AWAY_SECONDS)


def is_applied(row: Deployment) -> bool:
    """Whether every gateway is known to route by the deployment's present list.

    One that only a lost host can ask is not waited for: it would hold up every change for as long as that is away.
    """
    gateways = Gateway.objects.select_related("host")
    return all(
        gateway.applied.get(row.typed_id, 0) >= row.listing_version
        for gateway in gateways
        if not (gateway.host.lost_at and gateway.queue == gateway.host.queue)
    )
