"""Placing workloads: reserving capacity and making placements, all slots in one transaction, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db.models import Sum

from apps.core import ids
from apps.core.actor import WINDLASS
from apps.core.models import Managed
from apps.core.wants import create, want
from apps.placements.models import Place, Placement, PlacementBlob, Reservation
from apps.placements.workload import Resources, Workload
from apps.registry.models import Blob


class NoCapacity(Exception):
    """No place fits now; the words say why and what would."""


@dataclass(frozen=True)
class Draft:
    """A workload before it has a name: `build` gets the placement's outside name."""

    slot: str
    resources: Resources
    build: Callable[[str], Workload]
    uploaded: bool = False


def reserve(owner: Managed, attempt: int, draft: Draft) -> Placement:
    """Make the placement of (owner, slot, attempt) on the first place that fits, or return the one that is there.

    Call it within a transaction that holds the owner. Raises NoCapacity.
    """
    existing = Placement.objects.filter(owner_id=owner.pk, slot=draft.slot, attempt=attempt).first()
    if existing:
        return existing
    place = _fitting_place(draft)
    row_id = ids.uuid7()
    workload = draft.build(Placement.outside_name_of(row_id))
    placement = Placement(
        id=row_id,
        workspace_id=owner.workspace_id,
        queue=place.queue,
        owner_kind=owner.kind,
        owner_id=owner.pk,
        slot=draft.slot,
        attempt=attempt,
        place=place,
        workload=workload.to_json(),
    )
    create(placement, WINDLASS, message=f"Getting ready on {place.name}.")
    Reservation.objects.create(
        placement=placement,
        place=place,
        cpus=draft.resources.cpus,
        memory_bytes=draft.resources.memory_bytes,
        gpus=draft.resources.gpus,
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
    """What is not reserved of a place's host."""
    host = place.host
    assert host is not None
    held = Reservation.objects.filter(place=place).aggregate(Sum("cpus"), Sum("memory_bytes"), Sum("gpus"))
    return Resources(
        cpus=host.cpus - (held["cpus__sum"] or 0.0),
        memory_bytes=host.memory_bytes - (held["memory_bytes__sum"] or 0),
        gpus=host.gpus - (held["gpus__sum"] or 0),
    )


def _fitting_place(draft: Draft) -> Place:
    reasons = []
    for place in Place.objects.select_for_update(no_key=True, of=("self",)).select_related("host").order_by("pk"):
        host = place.host
        if host is None:
            continue
        if host.draining:
            reasons.append(f"{host.name} is draining")
        elif host.lost_at:
            reasons.append(f"{host.name} is lost")
        elif draft.uploaded and not host.caged and not settings.WINDLASS_ALLOW_UNCAGED_SCRIPTS:
            reasons.append(f"{host.name} can't keep uploaded scripts apart: install bubblewrap there")
        else:
            why_not = _why_not(place, draft.resources)
            if not why_not:
                return place
            reasons.append(f"{host.name} has {why_not}")
    raise NoCapacity("; ".join(reasons) or "no host has joined yet; start one with make up")


def _why_not(place: Place, needed: Resources) -> str:
    """What a place lacks for this, and whether waiting helps; "" where it fits."""
    host, there, gib = place.host, free(place), 1024**3
    assert host is not None
    for unit, size, total, left, wanted in (
        ("processors", 1.0, host.cpus, there.cpus, needed.cpus),
        ("GiB of memory", gib, host.memory_bytes, there.memory_bytes, needed.memory_bytes),
        ("GPUs", 1.0, host.gpus, there.gpus, needed.gpus),
    ):
        if wanted > total + 1e-9:
            return f"{total / size:.3g} {unit} in all, {wanted / size:.3g} are needed: ask for less, or add a host"
        if wanted > left + 1e-9:
            return (
                f"{max(0.0, left / size):.3g} of {total / size:.3g} {unit} free, {wanted / size:.3g} are needed: "
                "it starts by itself when there is room"
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
    place = Place.objects.select_for_update(no_key=True, of=("self",)).select_related("host").get(pk=locked.place_id)
    more = replicas - workload.replicas
    each = workload.resources
    if more > 0:
        why_not = _why_not(place, each.times(more))
        if why_not:
            raise NoCapacity(f"{place.name} has {why_not}")
    total = each.times(replicas)
    Reservation.objects.filter(placement=locked).update(
        cpus=total.cpus, memory_bytes=total.memory_bytes, gpus=total.gpus
    )
    content = locked.workload | {"replicas": replicas}
    return want(locked, WINDLASS, spec={"workload": content}, reason="Scaled", message=f"{replicas} replicas")


def of_owner(owner_id: UUID) -> list[Placement]:
    """All placements of an owner that are not deleted, oldest attempt first."""
    return list(Placement.objects.filter(owner_id=owner_id).exclude(phase="deleted").order_by("pk"))
