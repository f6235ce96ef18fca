"""A cluster on EC2 from its plan to its end: made in order, confirmed, tagged, priced; and all of it taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.clouds.models import CloudAccount, CloudSight, Offer
from apps.clusters.models import Cluster
from apps.core.actor import WINDLASS
from apps.core.wants import want
from apps.placements.models import Place
from tests.clouds import aws
from tests.providers.conftest import closed, lines
from tests.spine.conftest import World

ORDER = [
    "network",
    "gateway",
    "attachment",
    "subnet",
    "table",
    "route",
    "association",
    "firewall",
    "rules",
    "role",
    "profile",
    "membership",
    "machine-0",
    "machine-1",
]


def test_from_the_plan_to_nothing(
    world: World, cloud: str, account: CloudAccount, new_cluster: Callable[..., Cluster], kubernetes: Callable[..., Any]
) -> None:
    cluster = new_cluster(machines=2, approved=False)
    world.phase(cluster, "planned")
    assert [line["key"] for line in cluster.plan] == ORDER
    price = Offer.objects.get(machine_type="t3.medium", region=aws.REGION).price_usd_per_hour
    assert cluster.price_usd_per_hour == pytest.approx(2 * (price + 40 * 0.0952 / 730 + 0.005))
    assert (lines(cluster), aws.remains(cloud)) == ([], [])

    want(cluster, WINDLASS, spec={"approved": True})
    world.phase(cluster, "joining")
    check_machines(cloud, cluster)
    made = lines(cluster)
    assert {line.key for line in made} == set(ORDER) and {line.state for line in made} == {"live"}
    assert all(line.seen_at > line.mutated_at >= line.intended_at for line in made)

    api = kubernetes(cluster)
    world.phase(cluster, "ready")
    place = Place.objects.get(cluster=cluster)
    assert place.capacity == {"cpus": 3.8, "memory_bytes": 2 * 3072 * 2**20, "gpus": 0}

    want(cluster, WINDLASS, goal="delete")
    world.phase(cluster, "deleted", timeout_seconds=60)
    api.close()
    place.refresh_from_db()
    assert (aws.remains(cloud), closed(cluster)) == ([], True)
    assert place.gone_at and (cluster.credentials, cluster.access) == ("", {})
    assert [item for sight in CloudSight.objects.all() for item in sight.strays] == []
    gone = {line.key: line.gone_at for line in lines(cluster)}
    assert gone["machine-1"] < gone["subnet"] < gone["network"]

    want(account, WINDLASS, goal="delete")
    world.phase(account, "deleted")


def check_machines(cloud: str, cluster: Cluster) -> None:
    found = aws.machines(cloud)
    assert len(found) == 2
    for machine in found:
        tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
        assert {"windlass-installation", "windlass-cluster", "windlass-token", "Name"} <= set(tags)
        assert tags["windlass-cluster"] == cluster.typed_id.replace("_", "-")
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        assert machine["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        assert "KeyName" not in machine and machine["IamInstanceProfile"]
    volumes = aws.client(cloud, "ec2").describe_volumes()["Volumes"]
    assert [(item["Size"], item["VolumeType"], item["Encrypted"]) for item in volumes] == [(40, "gp3", True)] * 2
    (group,) = [
        item
        for item in aws.client(cloud, "ec2").describe_security_groups()["SecurityGroups"]
        if item["GroupName"].endswith("firewall")
    ]
    open_to = {
        (rule.get("FromPort"), rule.get("ToPort"), *[item["CidrIp"] for item in rule["IpRanges"]])
        for rule in group["IpPermissions"]
    }
    assert open_to == {(None, None), (6443, 6443, "203.0.113.0/24"), (20000, 29999, "203.0.113.0/24")}


def test_in_a_chosen_network_only_a_subnet_is_made(
    world: World, cloud: str, new_cluster: Callable[..., Cluster]
) -> None:
    ec2 = aws.client(cloud, "ec2")
    vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.50.0.0/24")
    cluster = new_cluster(network={"vpc_id": vpc})
    world.phase(cluster, "joining")
    (made,) = [line for line in lines(cluster) if line.key == "subnet"]
    assert ec2.describe_subnets(SubnetIds=[made.cloud_id])["Subnets"][0]["CidrBlock"] == "10.50.1.0/24"
    want(cluster, WINDLASS, goal="stop")
    world.phase(cluster, "cancelled", timeout_seconds=60)
    assert closed(cluster)
    left = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    assert [item["CidrBlock"] for item in left] == ["10.50.0.0/24"]
