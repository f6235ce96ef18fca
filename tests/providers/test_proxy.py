"""The proxy before moto does what it says: else the lives under faults would prove nothing."""

from __future__ import annotations

import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from tests.clouds import aws
from tests.clouds.proxy import Chance, Proxy, Request, serve

RANGE = "10.20.0.0/16"


def tagged(token: str) -> list[dict[str, object]]:
    tags = [{"Key": "Name", "Value": "c1-network"}, {"Key": "windlass-token", "Value": token}]
    return [{"ResourceType": "vpc", "Tags": tags}]


def through(address: str) -> object:
    once = Config(retries={"total_max_attempts": 1}, read_timeout=2)
    keys = {"aws_access_key_id": "AKIATESTTESTTESTTEST", "aws_secret_access_key": "secret"}
    return boto3.client("ec2", region_name=aws.REGION, endpoint_url=address, config=once, **keys)


def test_it_hides_acts_without_an_answer_and_refuses(cloud: str) -> None:
    faults = {"CreateVpc": ["hidden", "acted, then cut off", "acted, then silent"], "DeleteVpc": ["no permission"]}

    def choose(request: Request) -> str:
        left = faults.get(request.action, [])
        return left.pop(0) if left else ""

    proxy = Proxy(cloud, choose, hide_seconds=2.0)
    with serve(proxy) as address:
        ec2: object = through(address)
        vpc = ec2.create_vpc(CidrBlock=RANGE, TagSpecifications=tagged("a"))["Vpc"]["VpcId"]  # type: ignore[attr-defined]
        proxy.hidden[vpc] = time.monotonic() + 0.5
        seen = [item["VpcId"] for item in ec2.describe_vpcs()["Vpcs"]]  # type: ignore[attr-defined]
        assert seen and vpc not in seen
        time.sleep(0.6)
        assert vpc in [item["VpcId"] for item in ec2.describe_vpcs()["Vpcs"]]  # type: ignore[attr-defined]
        for _ in range(2):
            with pytest.raises(HTTPClientError):
                ec2.create_vpc(CidrBlock=RANGE, TagSpecifications=tagged("b"))  # type: ignore[attr-defined]
        with pytest.raises(ClientError, match="ec2:DeleteVpc"):
            ec2.delete_vpc(VpcId=vpc)  # type: ignore[attr-defined]
    made = proxy.made_by_token()
    assert (len(made["a"]), len(made["b"])) == (1, 2)
    assert made["a"] | made["b"] <= {item["VpcId"] for item in aws.client(cloud, "ec2").describe_vpcs()["Vpcs"]}


def test_a_seed_gives_the_same_faults_again() -> None:
    requests = [Request("ec2", "RunInstances", f"c{number}-machine-0", 0, True, {}) for number in range(200)]
    first = [Chance(3)(request) for request in requests]
    assert first == [Chance(3)(request) for request in reversed(requests)][::-1]
    assert first != [Chance(4)(request) for request in requests]
    assert {"no capacity", "hidden", "acted, then silent"} <= set(first)
