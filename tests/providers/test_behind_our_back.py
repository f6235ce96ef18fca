"""What is ended outside Windlass: seen, said, mended where that can be, and never a reason to leak."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from moto.backends import get_backend

from apps.clusters.models import CloudResource, Cluster
from apps.core.actor import WINDLASS
from apps.core.models import Event
from apps.core.wants import want
from apps.placements.models import Place
from tests.clouds import aws
from tests.providers.conftest import closed, lines
from tests.spine.conftest import World
from workers.reconcilers.clusters import _vanishing


def machine_of(cluster: Cluster, key: str) -> str:
    return [line for line in lines(cluster) if line.key == key and line.state == "live"][-1].cloud_id


@pytest.fixture
def ready(
    world: World, new_cluster: Callable[..., Cluster], kubernetes: Callable[..., Any]
) -> Callable[[int], Cluster]:
    def make(machines: int) -> Cluster:
        cluster = new_cluster(machines=machines)
        world.phase(cluster, "joining")
        kubernetes(cluster)
        world.phase(cluster, "ready")
        return cluster

    return make


def test_a_worker_that_is_gone_is_bought_again(world: World, cloud: str, ready: Callable[[int], Cluster]) -> None:
    cluster = ready(2)
    ended = machine_of(cluster, "machine-1")
    aws.client(cloud, "ec2").terminate_instances(InstanceIds=[ended])
    instance = next(iter(get_backend("ec2").values()))[aws.REGION].get_instance(ended)
    instance.state_reason.code = "Server.SpotInstanceTermination"
    world.phase(cluster, "degraded")
    assert cluster.reason == "MachineLost" and "preemption" in cluster.message
    world.phase(cluster, "ready", timeout_seconds=60)
    assert machine_of(cluster, "machine-1") != ended
    attempts = [(line.attempt, line.state) for line in lines(cluster) if line.key == "machine-1"]
    assert attempts == [(1, "gone"), (2, "live")]
    assert len([item for item in aws.machines(cloud) if item["State"]["Name"] == "running"]) == 2


def test_without_its_server_it_fails_and_all_is_taken_back(
    world: World, cloud: str, ready: Callable[[int], Cluster]
) -> None:
    cluster = ready(1)
    aws.client(cloud, "ec2").terminate_instances(InstanceIds=[machine_of(cluster, "machine-0")])
    world.phase(cluster, "failed", timeout_seconds=60)
    assert cluster.reason == "ServerLost" and "Somebody with rights" in cluster.message
    assert (aws.remains(cloud), closed(cluster)) == ([], True)
    assert Place.objects.get(cluster=cluster).gone_at is not None


def test_what_was_deleted_by_hand_can_still_be_deleted(
    world: World, cloud: str, ready: Callable[[int], Cluster]
) -> None:
    cluster = ready(1)
    role, profile = (next(line.cloud_id for line in lines(cluster) if line.key == key) for key in ("role", "profile"))
    iam = aws.client(cloud, "iam")
    want(cluster, WINDLASS, goal="delete")
    aws.client(cloud, "ec2").terminate_instances(InstanceIds=[machine_of(cluster, "machine-0")])
    iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=role)
    iam.delete_instance_profile(InstanceProfileName=profile)
    iam.delete_role(RoleName=role)
    world.phase(cluster, "deleted", timeout_seconds=90)
    assert (aws.remains(cloud), closed(cluster)) == ([], True)


def test_a_cluster_that_never_gets_ready_is_taken_back(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], kubernetes: Callable[..., Any], settings: Any
) -> None:
    cluster = new_cluster()
    world.phase(cluster, "joining")
    kubernetes(cluster).ready = False
    world.until(lambda: Event.objects.filter(row_id=cluster.pk, new="joining").exists())
    Cluster.objects.filter(pk=cluster.pk).update(phase_since=cluster.created_at.replace(year=2020))
    world.phase(cluster, "failed", timeout_seconds=60)
    assert cluster.reason == "NeverReady" and "machine-0: it has no network yet" in cluster.message
    assert (aws.remains(cloud), closed(cluster)) == ([], True)


def test_what_vanishes_again_and_again_is_not_bought_without_end() -> None:
    now = timezone.now()

    def line(attempt: int, state: str) -> CloudResource:
        return CloudResource(key="machine-1", attempt=attempt, state=state, intended_at=now)

    ended = [line(attempt, "gone") for attempt in (1, 2, 3, 4)]
    assert "3 times within an hour" in _vanishing(ended)
    assert _vanishing(ended[:3]) == ""
    assert _vanishing([*ended, line(5, "live")]) == ""
    for item in ended:
        item.intended_at = now - timedelta(hours=2)
    assert _vanishing(ended) == ""
