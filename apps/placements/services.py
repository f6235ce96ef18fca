"""Placing workloads: reserving capacity and making placements, all slots in one transaction, or none."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from django.db.models.functions import Coalesce, Now

from apps.core import ids
from apps.core.actor import WINDLASS
from apps.core.models import Goal, Managed
from apps.core.wants import create, lock, wake, want
from apps.placements.models import Place, Placement, PlacementBlob, Reservation
from apps.placements.workload import Resources, Workload
from apps.registry.models import Blob

RENDEZVOUS_PORTS = range(29400, 29900)


class NoCapacity(Exception):
    """No place fits now; the words say why and what would."""


@dataclass(frozen=True)
class Node:
    """One of `count` machines or pods on which a job's program runs at once; they meet at `rendezvous` (host:port).

    A target that starts them all itself gets one workload for `inside` of them, from `rank` on.
    """

    rank: int = 0
    count: int = 1
    inside: int = 1
    rendezvous: str = ""


ALONE = Node()


@dataclass(frozen=True)
class Draft:
    """A workload before it has a name: `build` gets the placement's outside name and which node it is.

    `resources` are those of one node; `nodes` of them stand on as many hosts, or on one cluster. `place`: there alone.
    """

    slot: str
    resources: Resources
    build: Callable[[str, Node], Workload]
    uploaded: bool = False
    nodes: int = 1
    place: UUID | None = None


def reserve(owner: Managed, attempt: int, draft: Draft) -> list[Placement]:
    """Make the placements of an attempt where there is room for all of them, or return those that are there.

    Call it within a transaction that holds the owner. Raises NoCapacity.
    """
    slots = [draft.slot] if draft.nodes == 1 else [f"node-{rank}" for rank in range(draft.nodes)]
    existing = Placement.objects.filter(owner_id=owner.pk, slot__in=slots, attempt=attempt).order_by("slot")
    if existing:
        return list(existing)
    places = _fitting_places(owner, draft)
    if draft.nodes == 1:
        return [_place(owner, attempt, draft, slots[0], places[0], ALONE)]
    if len(places) == 1:
        return [_place(owner, attempt, draft, slots[0], places[0], Node(0, draft.nodes, draft.nodes))]
    meeting = _meeting_at(places[0])
    return [
        _place(owner, attempt, draft, slot, place, Node(rank, draft.nodes, 1, meeting))
        for rank, (slot, place) in enumerate(zip(slots, places, strict=True))
    ]


def _meeting_at(place: Place) -> str:
    """Where the nodes of a job meet: at its first host, on a port where no other job meets there."""
    assert place.host is not None
    living = Placement.objects.filter(place=place).exclude(phase__in=Placement.phases.final)
    taken = set(living.values_list("workload__env__WINDLASS_RENDEZVOUS", flat=True))
    there = [f"{place.host.address}:{port}" for port in RENDEZVOUS_PORTS]
    return secrets.choice([meeting for meeting in there if meeting not in taken] or there)


def _place(owner: Managed, attempt: int, draft: Draft, slot: str, place: Place, node: Node) -> Placement:
    row_id = ids.uuid7()
    workload = draft.build(Placement.outside_name_of(row_id), node)
    placement = Placement(
        id=row_id,
        workspace_id=owner.workspace_id,
        queue=place.queue,
        owner_kind=owner.kind,
        owner_id=owner.pk,
        slot=slot,
        attempt=attempt,
        place=place,
        workload=workload.to_json(),
    )
    create(placement, WINDLASS, message=f"Getting ready on {place.name}.")
    held = draft.resources.times(node.inside)
    Reservation.objects.create(
        placement=placement, place=place, cpus=held.cpus, memory_bytes=held.memory_bytes, gpus=held.gpus
    )
    PlacementBlob.objects.bulk_create(
        [
            PlacementBlob(placement=placement, way=way, name=item.name, blob_id=ids.parse(Blob.prefix, item.blob))
            for way, items in (("in", workload.inputs), ("out", workload.outputs))
            for item in items
        ]
    )
    return placement


def free(place: Place) -> Resources:
    """What is not reserved of a place."""
    held = Reservation.objects.filter(place=place).aggregate(Sum("cpus"), Sum("memory_bytes"), Sum("gpus"))
    total = place.total
    return Resources(
        cpus=total.cpus - (held["cpus__sum"] or 0.0),
        memory_bytes=total.memory_bytes - (held["memory_bytes__sum"] or 0),
        gpus=total.gpus - (held["gpus__sum"] or 0),
    )


def _fitting_places(owner: Managed, draft: Draft) -> list[Place]:
    """As many hosts as the draft has nodes, or one cluster: hosts first, they cost nothing more."""
    places = Place.objects.select_for_update(no_key=True, of=("self",)).select_related("host", "cluster")
    mine = places.filter(Q(workspace=None) | Q(workspace=owner.workspace_id), goal=Goal.RUN, gone_at=None)
    if draft.place is not None:
        mine = mine.filter(pk=draft.place)
    reasons, hosts, clusters = [], [], []
    for place in mine.order_by("pk"):
        inside = draft.nodes if place.cluster else 1
        why_not = _refusal(place, draft) or _why_not(place, draft.resources.times(inside))
        if why_not:
            reasons.append(f"{place.name} {why_not}")
        elif place.host:
            hosts.append(place)
        else:
            clusters.append(place)
    if len(hosts) >= draft.nodes:
        return hosts[: draft.nodes]
    if clusters:
        return clusters[:1]
    if hosts:
        free_ones = "1 host has" if len(hosts) == 1 else f"{len(hosts)} hosts have"
        reasons.insert(0, f"{free_ones} room, and the {draft.nodes} nodes stand on as many hosts or on one cluster")
    if draft.place is not None and not reasons:
        reasons.append("the place that was chosen is gone or is being taken back: clone it with another place")
    raise NoCapacity("; ".join(reasons) or "no host has joined yet; start one with make up")


def _refusal(place: Place, draft: Draft) -> str:
    """Why nothing, or nothing of this kind, starts there now; "" where it may."""
    if place.lost_at:
        return "is lost"
    if place.phase == "unreachable" and place.cluster:
        return "does not answer"
    host = place.host
    if host is None:
        return "keeps no uploaded scripts apart" if draft.uploaded else ""
    if host.draining:
        return "is draining"
    if draft.nodes > 1 and ip_address(host.address).is_loopback:
        return f"is known by {host.address} alone, where no other host reaches it: set WINDLASS_HOST_ADDRESS there"
    if draft.uploaded and draft.nodes > 1:
        return "can't keep an uploaded script apart that talks to another host: use one node"
    if draft.uploaded and not host.caged and not settings.WINDLASS_ALLOW_UNCAGED_SCRIPTS:
        return "can't keep uploaded scripts apart: install bubblewrap there"
    return ""


def _why_not(place: Place, needed: Resources) -> str:
    """What a place lacks for this, and whether waiting helps; "" where it fits."""
    total, there, gib = place.total, free(place), 1024**3
    for unit, size, all_of_it, left, wanted in (
        ("processors", 1.0, total.cpus, there.cpus, needed.cpus),
        ("GiB of memory", gib, total.memory_bytes, there.memory_bytes, needed.memory_bytes),
        ("GPUs", 1.0, total.gpus, there.gpus, needed.gpus),
    ):
        if wanted > all_of_it + 1e-9:
            return (
                f"has {all_of_it / size:.3g} {unit} in all, {wanted / size:.3g} are needed: ask for less, or add a host"
            )
        if wanted > left + 1e-9:
            return (
                f"has {max(0.0, left / size):.3g} of {all_of_it / size:.3g} {unit} free, {wanted / size:.3g} are "
                "needed: it starts by itself when there is room"
            )
    return ""


def resize(placement: Placement, replicas: int) -> Placement:
    """Want another number of copies of a service, with the reservation to match. Raises NoCapacity.

    Call it within a transaction that holds the owner.
    """
    locked = Placement.objects.select_for_update(no_key=True).get(pk=placement.pk)
    workload = locked.wanted
    if workload.replicas == replicas:
        return locked
    places = Place.objects.select_for_update(no_key=True, of=("self",)).select_related("host", "cluster")
    place = places.get(pk=locked.place_id)
    more = replicas - workload.replicas
    each = workload.resources
    if more > 0:
        why_not = _why_not(place, each.times(more))
        if why_not:
            raise NoCapacity(f"{place.name} {why_not}")
    total = each.times(replicas)
    Reservation.objects.filter(placement=locked).update(
        cpus=total.cpus, memory_bytes=total.memory_bytes, gpus=total.gpus
    )
    content = locked.workload | {"replicas": replicas}
    return want(locked, WINDLASS, spec={"workload": content}, reason="Scaled", message=f"{replicas} replicas")


def of_owner(owner_id: UUID) -> list[Placement]:
    """All placements of an owner that are not deleted, oldest attempt first."""
    found = Placement.objects.filter(owner_id=owner_id).exclude(phase="deleted").select_related("place__host")
    return list(found.order_by("pk"))


def wake_owners(hosts: list[UUID]) -> None:
    """Those whose workloads stand on these hosts look at once: they decide what goes on elsewhere."""
    living = Placement.objects.filter(place__host__in=hosts).exclude(phase__in=Placement.phases.final)
    owners: dict[str, set[UUID]] = {}
    for kind, row_id in living.values_list("owner_kind", "owner_id").distinct():
        owners.setdefault(kind, set()).add(row_id)
    for kind in sorted(owners):
        wake(kind, owners[kind])


def close_place(place: Place) -> None:
    """It never answers again: whatever stood there is gone, and is settled from the common queue."""
    _move(place, "reconcile", gone_at=Coalesce("gone_at", Now()))


def reopen_place(place: Place) -> None:
    """A host that was given up is back: its own worker looks at all that stands there, before anything else."""
    assert place.host
    _move(place, place.host.queue, gone_at=None)


def _move(place: Place, queue: str, **changes: Any) -> None:
    """Have a queue look at the place and all that stands there; locked in the order that everybody keeps."""
    living = Placement.objects.filter(place=place).exclude(phase__in=Placement.phases.final)
    with transaction.atomic():
        keys = [row.pk for row in lock(Placement, list(living.values_list("pk", flat=True)))]
        Placement.objects.filter(pk__in=keys).update(queue=queue)
        wake("placement", keys)
        Place.objects.filter(pk=place.pk).update(queue=queue, **changes)
        wake("place", [place.pk])
