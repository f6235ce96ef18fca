"""A thousand steady clusters of one account: one look a minute at their machines, for little of a processor."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.clouds.models import CloudAccount, CloudSight
from apps.clusters.models import CloudResource, Cluster
from apps.core.installation import installation_name
from apps.core.wants import wake
from tests.providers.conftest import account, cloud, moto, workspace, world
from tests.spine.conftest import World
from workers import engine
from workers.reconcilers import RECONCILERS

__all__ = ["account", "cloud", "moto", "workspace", "world"]
MANY = 1000
KINDS_OF_A_CLUSTER = 13


@pytest.fixture
def many(world: World, cloud: str, account: CloudAccount, settings: Any) -> CloudAccount:
    """Ready clusters with one machine each, which their rows know."""
    from moto.backends import get_backend

    world.phase(account, "ready")
    settings.WINDLASS_TIME_SCALE = 1.0
    backend: Any = get_backend("ec2")["123456789012"][account.region]
    clusters, lines = [], []
    for number in range(MANY):
        wanted = {"workspace": world.workspace, "provider": "ec2", "account": account, "region": account.region}
        cluster = Cluster(name=f"c{number}", phase="ready", due_at=timezone.now() + timedelta(hours=1), **wanted)
        clusters.append(cluster)
        token = uuid4().hex
        tags = {"windlass-installation": installation_name(), "windlass-token": token, "windlass-cluster": "x"}
        about: Any = {"instance_type": "t3.medium", "is_instance_type_default": False, "region_name": account.region}
        made = backend.run_instances("ami-1", 1, None, [], tags={"instance": tags}, client_token=token, **about)
        lines.append(
            CloudResource(
                cluster=cluster,
                account=account,
                region=account.region,
                kind="machine",
                key="machine-0",
                name=f"n{number}",
                token=token,
                cloud_id=made.instances[0].id,
                state="live",
                mutated_at=timezone.now(),
            )
        )
    Cluster.objects.bulk_create(clusters)
    CloudResource.objects.bulk_create(lines)
    return account


def test_a_steady_look_costs_little_and_writes_nothing(many: CloudAccount) -> None:
    row = CloudSight.objects.get(account=many, resource_kind="machine")

    def look() -> tuple[float, int]:
        wake("cloud_sight", [row.pk])
        began = time.thread_time()  # moto's own threads are not counted
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert engine.reconcile("cloud_sight", row.pk, RECONCILERS)
        row.refresh_from_db()
        assert row.reason == "Watched", row.message
        return time.thread_time() - began, len(queries)

    look()
    assert CloudResource.objects.filter(seen__health="live", seen_at__isnull=False).count() == MANY
    seconds, queries = look()
    core = seconds / 60 + KINDS_OF_A_CLUSTER * seconds / 600  # as if the other kinds cost as much each ten minutes
    print(f"one look at {MANY} machines: {seconds:.2f} s of a processor, {queries} queries, {core:.3f} of a core")
    assert queries < 30
    assert core < 0.2
    assert CloudResource.objects.exclude(misses=0).count() == 0
