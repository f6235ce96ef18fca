"""What the target reads of the control plane's rows: how to reach a cluster, and what is wanted there."""

from __future__ import annotations

from typing import Any

from apps.core.sealing import CannotUnseal
from apps.placements.models import Placement
from workers.targets.kubernetes.access import access_of
from workers.targets.kubernetes.client import Client
from workers.targets.kubernetes.target import Wanted


def connect(place: Any) -> Client:
    """Raises ValueError where its credentials are none, or are not there any more."""
    try:
        return Client(access_of(place.cluster))
    except (CannotUnseal, KeyError) as error:
        raise ValueError(f"its credentials can't be read: {error}") from error


def wanted(place: Any) -> dict[str, Wanted]:
    """By outside name, in one query."""
    living = Placement.objects.filter(place=place, applied_generation__gt=0).exclude(phase__in=Placement.phases.final)
    rows = living.values_list("pk", "workload__kind", "workload__nodes", "workload__replicas")
    return {
        Placement.outside_name_of(row_id): Wanted(kind, (nodes if kind == "job" else replicas) or 1)
        for row_id, kind, nodes, replicas in rows
    }
