"""Cloud accounts and clusters as clients want them, and as reconcilers then leave them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from apps.accounts.models import Workspace
from apps.clouds.models import CloudAccount, Offer
from apps.clouds.services import create_account
from apps.clusters.models import CloudResource, Cluster, Host
from apps.clusters.services import buy_cluster
from apps.core.actor import WINDLASS
from apps.placements.models import Place, Placement, Reservation
from apps.training.models import TrainingRun
from tests.api.rows import training_run

CREDENTIALS = {"access_key_id": "AKIAPLANTED00000", "secret_access_key": "planted/secret+0123456789"}
GIB = 1024**3


def account(workspace: Workspace, name: str = "prod", phase: str = "ready", **fields: Any) -> CloudAccount:
    row = create_account(workspace, WINDLASS, name=name, provider="ec2", region="eu-central-1", credentials=CREDENTIALS)
    CloudAccount.objects.filter(pk=row.pk).update(phase=phase, **fields)
    row.refresh_from_db()
    return row


def offer(machine_type: str = "m7i.large", cpus: float = 2, price: float = 0.12, **fields: Any) -> Offer:
    return Offer.objects.create(
        provider="ec2",
        region=fields.pop("region", "eu-central-1"),
        machine_type=machine_type,
        cpus=cpus,
        memory_bytes=int(cpus * 4 * GIB),
        price_usd_per_hour=price,
        as_of=date(2026, 11, 1),
        **fields,
    )


def cluster(workspace: Workspace, name: str = "lab", phase: str = "planned", **fields: Any) -> Cluster:
    owner = CloudAccount.objects.filter(workspace=workspace).exclude(phase="deleted").first() or account(workspace)
    row = buy_cluster(workspace, WINDLASS, name=name, account=owner, machine_type="m7i.large")
    Cluster.objects.filter(pk=row.pk).update(phase=phase, **fields)
    row.refresh_from_db()
    return row


def resource(row: Cluster, key: str = "machine-0", **fields: Any) -> CloudResource:
    assert row.account is not None
    return CloudResource.objects.create(
        cluster=row,
        account=row.account,
        region=row.region,
        kind="instance",
        key=key,
        name=f"{row.name}-{key}",
        token=f"{row.pk}-{key}",
        **{"price_usd_per_hour": 0.12, "intended_at": datetime(2026, 11, 1, tzinfo=UTC), **fields},
    )


def joined(row: Cluster) -> Place:
    """The cluster's place, as it is once its nodes answer."""
    capacity = {"cpus": 4.0, "memory_bytes": 16 * GIB, "gpus": 0}
    Cluster.objects.filter(pk=row.pk).update(phase="ready")
    return Place.objects.create(workspace=row.workspace, target="kubernetes", cluster=row, capacity=capacity)


def host(name: str = "box", **fields: Any) -> Place:
    machine = Host.objects.create(name=name, cpus=4, memory_bytes=8 * GIB, **fields)
    return Place.objects.create(host=machine, queue=machine.queue)


def placed(place: Place, workspace: Workspace, run: TrainingRun | None = None) -> Placement:
    """A run's workload that stands there, with what it holds."""
    owner = run or training_run(workspace)
    placement = Placement.objects.create(
        workspace=workspace, owner_kind=owner.kind, owner_id=owner.pk, slot="node-0", place=place, workload={"argv": []}
    )
    Reservation.objects.create(placement=placement, place=place, cpus=1.5, memory_bytes=2 * GIB)
    return placement
