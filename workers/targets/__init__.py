"""Where workloads can run, by a place's target; and the rights that a workload's files need.

Everything is imported inside the functions: the shim and `carry` live in a package below this one, run without
Django, and have to start fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.placements.models import Place, Placement
    from workers.targets.contract import Grants, Target
    from workers.targets.kubernetes.target import KubernetesTarget
    from workers.targets.process.target import ProcessTarget


@cache
def this_host() -> ProcessTarget:
    """The target of the host that this worker runs on."""
    from django.conf import settings

    from workers.targets.process.target import ProcessTarget

    return ProcessTarget(
        settings.WINDLASS_WORKLOADS_DIRECTORY,
        address=settings.WINDLASS_HOST_ADDRESS,
        allow_uncaged=settings.WINDLASS_ALLOW_UNCAGED_SCRIPTS,
    )


@cache
def clusters() -> KubernetesTarget:
    """The target of every cluster; a place says which."""
    from django.conf import settings

    from apps.core.installation import installation_name
    from workers.targets.kubernetes.rows import connect, wanted
    from workers.targets.kubernetes.target import KubernetesTarget

    return KubernetesTarget(
        installation_name(), settings.WINDLASS_IMAGE, connect, wanted, scale=settings.WINDLASS_TIME_SCALE
    )


def target_for(place: Place) -> Target:
    """Raises KeyError for a target that this version does not know."""
    known: dict[str, Callable[[], Target]] = {"process": this_host, "kubernetes": clusters}
    return known[place.target]()


def grants_for(placement: Placement) -> Grants:
    """Where the parts of each input are and of each output go, with the data keys.

    Files where the store is on the disk that the workload's host shares with us, else addresses, which end.
    """
    from apps.core import ids
    from apps.deployments import replicas
    from apps.registry import blobs, parts, transfers
    from apps.registry.models import Blob
    from workers.targets.contract import Grants, InputGrant, OutputGrant

    workload = placement.wanted
    folder = _shared_folder(placement.place)
    ends: list[float] = []

    def places(blob: Blob, size_bytes: int) -> tuple[str, ...]:
        if folder:
            return tuple(f"{folder}/{blob.pk}/{number}" for number in range(parts.part_count(size_bytes)))
        there = transfers.to_read(blob, size_bytes)
        ends.append(there.ends_at)
        return there.parts

    def directory(blob: Blob) -> str:
        if folder:
            return f"{folder}/{blob.pk}"
        ends.append(time.time() + transfers.AGE_SECONDS)
        return transfers.address(blob, transfers.WRITE)

    named = [item.blob for item in workload.inputs] + [item.blob for item in workload.outputs]
    wanted = [ids.parse(Blob.prefix, name) for name in named]
    found = {blob.typed_id: blob for blob in Blob.objects.filter(pk__in=wanted)}
    inputs = {}
    for item in workload.inputs:
        blob = found[item.blob]
        inputs[item.name] = InputGrant(str(blob.pk), blobs.data_key(blob), places(blob, item.size_bytes))
    outputs = {}
    for output in workload.outputs:
        blob = found[output.blob]
        outputs[output.name] = OutputGrant(str(blob.pk), blobs.data_key(blob), directory(blob))
    replica = ""
    if workload.kind == "service" and placement.place.target != "process":
        replica = replicas.address(placement)
        ends.append(time.time() + replicas.AGE_SECONDS)
    return Grants(inputs, outputs, min(ends, default=None), replica)


def _shared_folder(place: Place) -> str:
    """Where blobs lie on the disk of this place's machine; "" where it is elsewhere, or they are."""
    from apps.registry import blobs

    if place.target != "process" or (place.host and place.host.certificate_sha256):
        return ""
    try:
        return blobs.storage().path("blobs")
    except NotImplementedError:  # Django's word for a store that is not on this disk
        return ""
