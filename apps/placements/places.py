"""Places as users see them: which there are for a workspace, what is held of each, and whose work stands there."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from apps.accounts.models import Workspace
from apps.core import ids
from apps.core.errors import invalid
from apps.core.models import Goal
from apps.core.pages.rows import NAMED_BY, label
from apps.core.wants import model_of
from apps.placements.models import Place, Placement


def places_of(workspace: Workspace) -> QuerySet[Place]:
    """All that its workloads may stand on: every host, and its own clusters; none that is gone or being taken back."""
    mine = Q(workspace=None, host__isnull=False) | Q(workspace=workspace, cluster__isnull=False)
    return Place.objects.filter(mine, gone_at=None, goal=Goal.RUN).select_related("host", "cluster")


def with_held(places: QuerySet[Place]) -> QuerySet[Any]:
    """Adds `held_cpus`, `held_memory_bytes` and `held_gpus`: what is reserved there, of all workspaces."""
    names = {"cpus": 0.0, "memory_bytes": 0, "gpus": 0}
    return places.annotate(
        **{f"held_{name}": Coalesce(Sum(f"reservations__{name}"), zero) for name, zero in names.items()}
    )


def place_named(workspace: Workspace, typed_id: str, field: str) -> Place:
    """The place that an id in a body names. Raises Invalid, in the same words for other workspaces' clusters."""
    fix = "GET places lists those that there are."
    try:
        row_id = ids.parse(Place.prefix, str(typed_id))
    except ValueError as error:
        raise invalid(field, str(error), fix) from error
    found = places_of(workspace).filter(pk=row_id).first()
    if found is None:
        raise invalid(field, f"There is no place {typed_id} that this workspace may use.", fix)
    return found


def owners_at(place: Place) -> list[str]:
    """The names of those whose workloads stand there or may come there yet, each once: one query a kind."""
    living = Placement.objects.filter(place=place).exclude(phase__in=Placement.phases.final)
    wanted: dict[str, set[UUID]] = {}
    for kind, row_id in living.values_list("owner_kind", "owner_id").distinct():
        wanted.setdefault(kind, set()).add(row_id)
    runs: Any = model_of("training_run")
    waiting = runs.objects.filter(place=place).exclude(phase__in=runs.phases.final)
    wanted.setdefault("training_run", set()).update(waiting.values_list("pk", flat=True))
    deployments: Any = model_of("deployment")
    spread = deployments.objects.filter(spread__contains=[{"place": place.typed_id}]).exclude(phase="deleted")
    wanted.setdefault("deployment", set()).update(spread.values_list("pk", flat=True))
    found = []
    for kind, keys in sorted(wanted.items()):
        model: Any = model_of(kind)
        owners = model.objects.select_related(*NAMED_BY.get(kind, ())).filter(pk__in=keys)
        found += [f"{model.title} {label(owner)}" for owner in owners.order_by("pk")]
    return found
