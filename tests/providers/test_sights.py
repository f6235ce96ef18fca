"""A sight: strays are told with their price, a throttled account waits alone, steady kinds are looked at rarely."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.clouds.models import CloudAccount, CloudSight
from apps.clusters.models import CloudResource, Cluster
from apps.core.actor import WINDLASS
from apps.core.installation import installation_name
from apps.core.wants import wake, want
from tests.clouds import aws
from tests.providers.conftest import lines, new_account
from tests.spine.conftest import World
from workers.providers import ec2
from workers.providers.contract import Throttled


def sight(account: CloudAccount, kind: str) -> CloudSight:
    return CloudSight.objects.get(account=account, resource_kind=kind)


def look(world: World, row: CloudSight) -> CloudSight:
    calls = row.calls
    wake("cloud_sight", [row.pk])

    def looked() -> bool:
        row.refresh_from_db()
        return row.calls > calls

    world.until(looked)
    return row


def test_what_carries_our_tags_and_is_no_row_s_is_told_with_what_it_cost(
    world: World, cloud: str, account: CloudAccount
) -> None:
    world.phase(account, "ready")
    tags = {"windlass-installation": installation_name(), "windlass-token": "t" * 32, "windlass-cluster": "cls-old"}
    made = [{"Key": key, "Value": value} for key, value in tags.items()]
    ec2_client = aws.client(cloud, "ec2")
    about: Any = {"InstanceType": "t3.medium", "ImageId": "ami-1", "MinCount": 1, "MaxCount": 1}
    machine = ec2_client.run_instances(**about, TagSpecifications=[{"ResourceType": "instance", "Tags": made}])
    cloud_id = machine["Instances"][0]["InstanceId"]
    row = look(world, sight(account, "machine"))
    (stray,) = row.strays
    assert (stray["cloud_id"], stray["cluster"]) == (cloud_id, "cls-old")
    assert stray["price_usd_per_hour"] == 0.048
    hour = (timezone.now() - timedelta(hours=1)).isoformat()
    CloudSight.objects.filter(pk=row.pk).update(strays=[stray | {"first_seen": hour}])
    (stray,) = look(world, row).strays
    assert stray["first_seen"] == hour and stray["cost_usd"] == pytest.approx(0.048, rel=0.02)
    ec2_client.terminate_instances(InstanceIds=[cloud_id])
    assert look(world, row).strays == []


def test_what_another_row_for_the_same_account_has_is_no_stray(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], account: CloudAccount
) -> None:
    other = new_account(world, "other")
    world.phase(new_cluster(), "joining")
    world.phase(other, "ready")
    for kind in ("machine", "network", "role"):
        row = look(world, sight(other, kind))
        assert (row.strays, row.message) == ([], "0 are known here.")


def test_what_was_given_up_and_is_there_after_all_goes_back_to_its_row(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], account: CloudAccount
) -> None:
    cluster = new_cluster()
    world.phase(cluster, "joining")
    (network,) = [line for line in lines(cluster) if line.key == "network"]
    gone = {"state": "gone", "gone_at": timezone.now(), "cloud_id": "", "mutated_at": timezone.now()}
    CloudResource.objects.filter(pk=network.pk).update(**gone)
    row = look(world, sight(account, "network"))
    network.refresh_from_db()
    assert (network.state, network.gone_at, row.strays) == ("live", None, [])
    assert network.cloud_id.startswith("vpc-")


def test_a_throttled_account_waits_alone(
    world: World,
    cloud: str,
    account: CloudAccount,
    new_cluster: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = new_account(world, "other")
    world.phase(account, "ready")
    world.phase(other, "ready")
    real, calls = ec2.Making.network, list[str]()

    def slowly(making: Any) -> str:
        calls.append(making.token)
        if len(calls) == 1:
            raise Throttled("AWS asks for patience", 3.0)
        return real(making)

    monkeypatch.setattr(ec2.Making, "network", slowly)
    cluster = new_cluster()
    world.until(lambda: calls)
    account.refresh_from_db()
    cluster.refresh_from_db()
    assert account.throttled_until and account.throttled_until > timezone.now() + timedelta(seconds=1)
    assert (cluster.phase, cluster.reason, lines(cluster)) == ("creating", "Throttled", [])
    before = {item.pk: item.calls for item in CloudSight.objects.filter(account=account)}
    look(world, sight(other, "machine"))
    assert {item.pk: item.calls for item in CloudSight.objects.filter(account=account)} == before
    world.phase(cluster, "joining")
    assert len(calls) == 2 and len(aws.machines(cloud)) == 1


def test_steady_kinds_are_looked_at_rarely(
    world: World, account: CloudAccount, new_cluster: Callable[..., Cluster], settings: Any
) -> None:
    cluster = new_cluster()
    world.phase(cluster, "joining")
    look(world, sight(account, "machine"))
    look(world, sight(account, "network"))

    def waits(kind: str) -> float:
        row = sight(account, kind)
        assert row.due_at
        return (row.due_at - timezone.now()).total_seconds()

    assert 5 < waits("machine") <= 6 and 55 < waits("network") <= 60  # a tenth of real time
    want(cluster, WINDLASS, goal="delete")
    world.until(lambda: CloudResource.objects.filter(cluster=cluster, kind="machine", state="deleting").exists())
    world.until(lambda: waits("machine") < 1)
    assert waits("network") > 30
