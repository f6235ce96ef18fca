"""A sight: one batched look at one kind of resource for all clusters of an account in a region."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from apps.clouds.models import CloudSight
from apps.clusters.models import CloudResource, Cluster
from apps.core.phases import CLEANING, DELETED
from apps.core.wants import wake
from workers.crashpoints import point
from workers.engine import Context, Outcome, Reconciler, stay
from workers.providers import graph, provider
from workers.providers.contract import NotYet, Refusal, Seen, Throttled, Unclear
from workers.reconcilers.cloud_access import be_patient, check_patience, opened, scaled

MACHINE_BEAT, OTHER_BEAT, BUSY_BEAT, LONG_BUSY_BEAT = 60.0, 600.0, 2.0, 20.0
LONG_BUSY_SECONDS = 600.0
GONE = CloudResource.State.GONE
Change = tuple[CloudResource, dict[str, Any]]


def watching(row: CloudSight, context: Context) -> Outcome:
    account = row.account
    check_patience(account)
    service = provider(account.provider)
    began = context.now()
    point("cloud.look.before")
    try:
        seen = service.look(opened(account, row.region), row.resource_kind)
    except Throttled as error:
        raise be_patient(account, error) from error
    except (Unclear, NotYet) as error:
        return stay(row, after=scaled(BUSY_BEAT), reason="Unclear", message=f"The cloud did not answer: {error}")
    except Refusal as refusal:
        return Outcome("unreachable", refusal.reason, refusal.message, after=scaled(MACHINE_BEAT))
    point("cloud.look.answered")
    of_kind = CloudResource.objects.filter(account=account, region=row.region, kind=row.resource_kind)
    living = list(of_kind.exclude(state=GONE))
    changes, unknown = compare(living, seen, began)
    revived, strays = _unexpected(row, unknown, began)
    changes += revived
    settled = {resource.pk for resource in living if graph.settled(resource)} - {found.pk for found, _new in changes}
    return Outcome(
        "watching",
        "Watched",
        f"{len(living)} are known here." + (f" {len(strays)} belong to nothing." if strays else ""),
        after=scaled(_beat(row, [item for item in living if item.pk not in settled], bool(revived))),
        fields={"observed_at": began, "calls": row.calls + 1, "strays": strays},
        **_writing(changes, began),
    )


def compare(
    living: list[CloudResource], seen: Mapping[str, Seen], began: datetime
) -> tuple[list[Change], dict[str, Seen]]:
    """What a look changes in rows, and what it shows that carries our tags and belongs to none of them."""
    by_token = {found.token: found for found in seen.values() if found.token}
    unknown = {cloud_id: found for cloud_id, found in seen.items() if found.token and found.health != "gone"}
    changes = []
    for row in living:
        found = graph.found_of(row, seen, by_token)
        if found is not None:
            unknown.pop(found.cloud_id, None)
        if new := graph.notice(row, found, began):
            changes.append((row, new))
    return changes, unknown


def _unexpected(
    row: CloudSight, unknown: Mapping[str, Seen], began: datetime
) -> tuple[list[Change], list[dict[str, Any]]]:
    """What was given up as never made and is there after all goes back to its row; the rest are strays."""
    tokens = [found.token for found in unknown.values()]
    owners = {item.token: item for item in CloudResource.objects.filter(token__in=tokens).select_related("cluster")}
    known_since = {stray["cloud_id"]: stray["first_seen"] for stray in row.strays}
    revived: list[Change] = []
    strays = []
    for cloud_id, found in sorted(unknown.items()):
        owner = owners.get(found.token)
        is_its_own = owner is not None and owner.cloud_id in {"", cloud_id}
        if owner is not None and is_its_own and not (owner.state == GONE and owner.cluster.is_final):
            # Else it is looked after by its own sight: of another region, or of another row for the same account.
            mine = (owner.account_id, owner.region) == (row.account_id, row.region)
            if mine and found.health != "stopping" and owner.gone_at and owner.gone_at < began:
                seen = {"cloud_id": cloud_id, "health": found.health, "facts": dict(found.facts)}
                back = {"state": "live", "cloud_id": cloud_id, "gone_at": None, "seen": seen, "seen_at": began}
                revived.append((owner, {**back, "misses": 0}))
            continue
        first_seen = known_since.get(cloud_id, began.isoformat())
        hours = (began - datetime.fromisoformat(first_seen)).total_seconds() / 3600
        strays.append(
            {
                "cloud_id": cloud_id,
                "token": found.token,
                "cluster": found.cluster,
                "first_seen": first_seen,
                "price_usd_per_hour": found.price_usd_per_hour,
                "cost_usd": found.price_usd_per_hour * hours,
            }
        )
    return revived, strays


def _beat(row: CloudSight, moving: list[CloudResource], revived: bool) -> float:
    """Seconds to the next look: a moment while something is in transition, unless it has been for long."""
    if not moving and not revived:
        return MACHINE_BEAT if row.resource_kind == provider(row.account.provider).machine_kind else OTHER_BEAT
    limit = timezone.now() - timedelta(seconds=scaled(LONG_BUSY_SECONDS))
    young = revived or any((item.mutated_at or item.intended_at) > limit for item in moving)
    return BUSY_BEAT if young else LONG_BUSY_BEAT


def _writing(changes: list[Change], began: datetime) -> dict[str, Any]:
    """The rows that changed, and a wake for their clusters, within the outcome's transaction."""
    if not changes:
        return {}
    clusters: list[UUID] = sorted({resource.cluster_id for resource, _new in changes})

    def also() -> None:
        for resource, new in changes:
            untouched = Q(mutated_at=None) | Q(mutated_at__lt=began)
            CloudResource.objects.filter(untouched, pk=resource.pk, state=resource.state).update(**new)
        wake("cluster", clusters)

    return {"locks": [(Cluster.kind, clusters)], "also": also}


def cleaning(row: CloudSight, context: Context) -> Outcome:
    """It goes with its account, when nothing of it is left to be looked at."""
    if CloudResource.objects.filter(account=row.account_id, region=row.region).exclude(state=GONE).exists():
        return stay(row, after=scaled(30), reason="DeleteBlocked", message="Clusters still have machines there.")
    return Outcome(DELETED, "Deleted", fields={"strays": []})


def wake_sights(account_id: UUID, region: str, kinds: set[str]) -> None:
    """Have these kinds looked at now, unless they will be within a moment. Call it within a transaction."""
    soon = timezone.now() + timedelta(seconds=scaled(BUSY_BEAT) / 2)
    asleep = CloudSight.objects.filter(account=account_id, region=region, resource_kind__in=kinds)
    wake("cloud_sight", list(asleep.filter(due_at__gt=soon).values_list("pk", flat=True)))


RECONCILER = Reconciler("cloud_sight", {"watching": watching, "unreachable": watching, CLEANING: cleaning})
