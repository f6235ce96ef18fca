"""A place: one observation of everything that stands there, and a wake for each placement that changed."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from apps.core import ids
from apps.core.phases import CLEANING, DELETED
from apps.core.wants import wake
from apps.deployments.bundles import auth_bundle
from apps.deployments.models import Deployment
from apps.placements.foreign import storable
from apps.placements.models import Place, Placement
from apps.placements.observation import Observed
from workers import targets
from workers.crashpoints import point
from workers.engine import Context, Outcome, Reconciler
from workers.targets.contract import Unavailable

logger = logging.getLogger(__name__)
BEAT_SECONDS = 5.0
BUSY_SECONDS = 1.0
ORPHAN_SECONDS = 120.0


def watching(row: Place, context: Context) -> Outcome:
    if row.gone_at:  # its placements know; nobody is there to be asked
        return Outcome("watching", reason="Gone", message=f"{row.name} is gone.")
    target = targets.target_for(row)
    began = context.now()
    try:
        point("place.observe.before")
        seen = target.observe(row)
        point("place.observe.answered")
    except (Unavailable, OSError) as error:
        words = f"{row.name} does not answer: {error}"
        services = [] if row.phase == "unreachable" else services_here(row)
        return Outcome(
            "unreachable",
            reason="Unavailable",
            message=words,
            after=2,
            locks=[("deployment", services)] if services else [],
            also=lambda: wake("deployment", services),
        )
    here = list(Placement.objects.filter(place=row).exclude(phase__in=Placement.phases.final))
    changed = []
    for placement in here:
        observed = storable(seen.get(placement.outside_name, Observed("gone")).to_json())
        stale = placement.observed_at is None or (
            placement.mutated_at is not None and placement.observed_at <= placement.mutated_at
        )
        if observed != placement.observed or stale:
            changed.append((placement.pk, observed))
    publish_bundles(row, target, here)
    remove_orphans(row, target, context)

    services = services_here(row) if row.phase == "unreachable" else []

    def write() -> None:
        wake("deployment", services)
        for pk, observed in changed:
            Placement.objects.filter(pk=pk).filter(Q(observed_at=None) | Q(observed_at__lt=began)).update(
                observed=observed, observed_at=began
            )
        wake("placement", [pk for pk, _observed in changed])

    waiting = any(placement.phase != "ready" for placement in here)
    locks = [("deployment", services), ("placement", [pk for pk, _observed in changed])]
    return Outcome(
        "watching",
        fields={"resource_version": row.resource_version},
        after=BUSY_SECONDS if waiting else BEAT_SECONDS,
        locks=[(kind, row_ids) for kind, row_ids in locks if row_ids],
        also=write if changed or services else None,
    )


def services_here(row: Place) -> list[UUID]:
    """The deployments that stand here: they look at whether it answers, when that changes."""
    living = Placement.objects.filter(place=row, owner_kind="deployment").exclude(phase__in=Placement.phases.final)
    return sorted(set(living.values_list("owner_id", flat=True)))


def publish_bundles(place: Place, target: Any, here: list[Placement]) -> None:
    """Constant work: on every beat the whole auth bundle of every service here, changed or not. On a cluster replicas
    pull theirs."""
    if place.cluster_id:
        return
    services = [row for row in here if row.owner_kind == "deployment" and row.phase in {"starting", "running", "ready"}]
    for deployment in Deployment.objects.filter(pk__in={row.owner_id for row in services}):
        content = auth_bundle(deployment)
        for placement in services:
            if placement.owner_id == deployment.pk:
                try:
                    target.publish(place, placement.outside_name, "auth.json", content)
                except (Unavailable, OSError):
                    continue  # its age is a metric of the replica; the next beat tries again


def remove_orphans(place: Place, target: Any, context: Context) -> None:
    """Delete workloads of ours whose row ended, or was lost, more than two minutes ago."""
    limit = timezone.now() - timedelta(seconds=ORPHAN_SECONDS * settings.WINDLASS_TIME_SCALE)
    for owned in target.list_owned(place):
        try:
            row_id = ids.parse(Placement.prefix, owned.name.replace("-", "_", 1))
        except ValueError:
            continue
        row = Placement.objects.filter(pk=row_id).first()
        if row is not None and row.is_final and row.phase_since < limit:
            context.check()
            point("place.orphan.before")
            try:
                target.delete(place, owned.name)
            except (Unavailable, OSError) as error:  # it must not keep the place from looking at all the others
                logger.warning("%s: what is left of %s could not be removed yet: %s", place.name, owned.name, error)
            point("place.orphan.answered")


def cleaning(row: Place, context: Context) -> Outcome:
    """A place goes when nothing stands there any more."""
    if Placement.objects.filter(place=row).exclude(phase__in=Placement.phases.final).exists():
        return Outcome(CLEANING, reason="InUse", message="What stands there is being taken away first.", after=5)
    return Outcome(DELETED, reason="Deleted")


RECONCILER = Reconciler("place", {"watching": watching, "unreachable": watching, CLEANING: cleaning})
