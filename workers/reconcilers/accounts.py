"""A cloud account: who its credentials are, what they lack, and what machines its service has at which price."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db.models.functions import Now

from apps.clouds.models import CloudAccount, CloudSight, Offer
from apps.clusters.models import Cluster
from apps.core.actor import WINDLASS
from apps.core.models import Goal
from apps.core.phases import CLEANING, DELETED
from apps.core.wants import want
from workers.crashpoints import point
from workers.engine import Context, Outcome, Reconciler, Retry, stay
from workers.providers import provider
from workers.providers.contract import Checked, MachineOffer, NotYet, Refusal, Throttled, Unclear
from workers.reconcilers.cloud_access import be_patient, check_patience, ensure_sights, opened, scaled

HOUR, TEN_MINUTES = 3600.0, 600.0


def checking(row: CloudAccount, context: Context) -> Outcome:
    """Ask the cloud; every hour again, and after each change."""
    check_patience(row)
    service = provider(row.provider)
    point("cloud.check.before")
    try:
        checked = service.check(opened(row, row.region))
    except Throttled as error:
        raise be_patient(row, error) from error
    except (Unclear, NotYet) as error:
        raise Retry("Unclear", f"The cloud did not answer: {error}. It is asked again.") from error
    except Refusal as refusal:
        finding = {"code": refusal.reason, "message": refusal.message, "fix": "Give the account other credentials."}
        fields: dict[str, Any] = {"findings": [finding], "checked_at": Now()}
        return Outcome("refused", refusal.reason, refusal.message, after=TEN_MINUTES, fields=fields)
    point("cloud.check.answered")
    return _outcome(row, checked, list(service.offers()))


def _outcome(row: CloudAccount, checked: Checked, offers: list[MachineOffer]) -> Outcome:
    findings = [asdict(finding) for finding in checked.findings]
    fields = {"identity": checked.identity[:200], "findings": findings, "checked_at": Now()}

    def also() -> None:
        _keep_offers(row.provider, offers)
        ensure_sights(row, row.region)

    if findings:
        first = checked.findings[0]
        more = f" {len(findings) - 1} more are missing." if len(findings) > 1 else ""
        words = f"{first.message}{more} {first.fix}"
        return Outcome("refused", first.code, words, after=TEN_MINUTES, fields=fields, also=also)
    return Outcome("ready", "Ready", f"These are {checked.identity}.", after=HOUR, fields=fields, also=also)


def _keep_offers(name: str, offers: list[MachineOffer]) -> None:
    rows = [
        Offer(
            provider=name,
            region=offer.region,
            machine_type=offer.machine_type,
            cpus=offer.cpus,
            memory_bytes=offer.memory_bytes,
            gpus=offer.gpus,
            price_usd_per_hour=offer.price_usd_per_hour,
            as_of=offer.as_of,
        )
        for offer in offers
    ]
    Offer.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["provider", "region", "machine_type"],
        update_fields=["cpus", "memory_bytes", "gpus", "price_usd_per_hour", "as_of"],
    )


def cleaning(row: CloudAccount, context: Context) -> Outcome:
    """It goes when no cluster needs it any more, and its sights with it."""
    needed = Cluster.objects.filter(account=row).exclude(phase__in=Cluster.phases.final)
    if names := list(needed.values_list("name", flat=True)[:3]):
        words = f"Its clusters have to be deleted first: {', '.join(names)}. They can't be without it."
        return stay(row, after=scaled(30), reason="DeleteBlocked", message=words)
    for sight in CloudSight.objects.filter(account=row).exclude(goal=Goal.DELETE):
        want(sight, WINDLASS, goal=Goal.DELETE)
    if CloudSight.objects.filter(account=row).exclude(phase=DELETED).exists():
        return stay(row, after=scaled(2), message="Its sights are being closed.")
    return Outcome(DELETED, "Deleted", "Its credentials are forgotten.", fields={"findings": []})


RECONCILER = Reconciler(
    "cloud_account", {"checking": checking, "ready": checking, "refused": checking, CLEANING: cleaning}
)
