"""The ledger of one cluster, as `workers.providers.graph` wants it: rows written only under the cluster's lease."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db.models.functions import Now

from apps.clusters.models import CloudResource, Cluster
from workers.engine import Context
from workers.providers.contract import Resource


def outside_name(cluster: Cluster) -> str:
    """What the cloud knows it by; unique for ever."""
    return cluster.typed_id.replace("_", "-")


class ClusterLedger:
    def __init__(self, cluster: Cluster, context: Context) -> None:
        self.cluster, self.context = cluster, context

    def check(self) -> None:
        self.context.check()

    def intend(self, resource: Resource, attempt: int, cloud_id: str) -> CloudResource:
        assert self.cluster.account
        row = CloudResource(
            cluster=self.cluster,
            account=self.cluster.account,
            region=self.cluster.region,
            kind=resource.kind,
            key=resource.key,
            attempt=attempt,
            name=f"{outside_name(self.cluster)}-{resource.key}" + (f"-{attempt}" if attempt > 1 else ""),
            token=uuid4().hex,
            cloud_id=cloud_id,
            price_usd_per_hour=resource.price_usd_per_hour,
        )

        def write() -> CloudResource:
            row.save(force_insert=True)
            row.refresh_from_db(fields=["intended_at"])
            return row

        return self.context.record("intent", write)

    def write(self, row: Any, *, answered: bool = False, **changes: Any) -> None:
        if answered:
            changes |= {"mutated_at": Now(), "misses": 0}
        if changes.get("state") == CloudResource.State.GONE:
            changes["gone_at"] = Now()

        def write() -> None:
            CloudResource.objects.filter(pk=row.pk).update(**changes)
            row.refresh_from_db(fields=list(changes))

        self.context.record("answer" if answered else "note", write)

    def forget(self, row: Any) -> None:
        self.context.record("forget", lambda: CloudResource.objects.filter(pk=row.pk).delete())
