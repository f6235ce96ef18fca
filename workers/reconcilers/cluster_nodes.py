"""What a cluster's Kubernetes says of its machines: which are ready, and what they have together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apps.clusters.models import Cluster
from apps.core.sealing import CannotUnseal

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
GPU = "nvidia.com/gpu"


class NotAnswering(Exception):
    """Nobody answers there, or not who should."""


@dataclass(frozen=True)
class Nodes:
    """`ready`: names. `capacity`: of those, {"cpus", "memory_bytes", "gpus"}. `why`: what another one says."""

    ready: tuple[str, ...]
    capacity: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def look_at_nodes(row: Cluster) -> Nodes:
    """Raises NotAnswering."""
    from workers.targets.contract import Conflict, Unavailable
    from workers.targets.kubernetes.access import access_of
    from workers.targets.kubernetes.client import Client, Missing

    try:
        listed = Client(access_of(row)).get("/api/v1/nodes")
    except (Unavailable, Conflict, Missing, CannotUnseal, OSError, ValueError) as error:
        raise NotAnswering(str(error)) from error
    return read_nodes(listed.get("items") or [])


def read_nodes(items: list[dict[str, Any]]) -> Nodes:
    """Of a NodeList's items. One that takes no work (cordoned) is ready, and counts for nothing in the capacity."""
    ready, why = [], ""
    capacity: dict[str, Any] = {"cpus": 0.0, "memory_bytes": 0, "gpus": 0}
    for item in items:
        name = item["metadata"]["name"]
        conditions = {found["type"]: found for found in item.get("status", {}).get("conditions", [])}
        state = conditions.get("Ready", {})
        if state.get("status") != "True":
            why = f"{name}: {state.get('message') or 'it does not report.'}"
            continue
        ready.append(name)
        if item.get("spec", {}).get("unschedulable"):
            continue
        has = item["status"].get("allocatable", {})
        capacity["cpus"] += quantity(has.get("cpu", "0"))
        capacity["memory_bytes"] += int(quantity(has.get("memory", "0")))
        capacity["gpus"] += int(quantity(has.get(GPU, "0")))
    return Nodes(tuple(sorted(ready)), capacity, why)


def quantity(text: str) -> float:
    """A number as Kubernetes writes it: "3900m", "16Gi", "4"."""
    for unit, size in UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * size
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)
