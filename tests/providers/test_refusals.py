"""What the cloud refuses: a clear reason, everything taken back; while it is taken back, nothing is given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from apps.clouds.models import CloudAccount
from apps.clusters.models import Cluster
from apps.core.actor import WINDLASS
from apps.core.wants import wake, want
from tests.clouds import aws
from tests.providers.conftest import closed, lines, new_account
from tests.spine.conftest import World
from workers.providers import ec2, ec2_kinds
from workers.providers.aws import meaning
from workers.providers.contract import NotYet, Refusal, Throttled, Unclear

NOT_ALLOWED = (
    "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to perform: "
    "ec2:RunInstances on resource: arn:aws:ec2:eu-central-1:1:instance/*. Encoded authorization failure message: x9Y"
)


def error(code: str, message: str, operation: str = "RunInstances", status: int = 400, after: str = "") -> ClientError:
    about: Any = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": after}}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": about}, operation)


def test_no_capacity_is_a_no_though_ec2_sends_it_as_its_own_failure() -> None:
    refusal = meaning(error("InsufficientInstanceCapacity", "We have none.", status=500), "Making a machine")
    assert isinstance(refusal, Refusal) and refusal.reason == "NoCapacity"
    assert isinstance(meaning(error("InternalError", "An error.", status=500), "Making a machine"), Unclear)


@pytest.mark.parametrize(
    ("code", "message", "reason", "said"),
    [
        ("InsufficientInstanceCapacity", "We have none.", "NoCapacity", "another machine type or region"),
        ("VcpuLimitExceeded", "Limit of 0 vCPU.", "QuotaExceeded", "Service Quotas"),
        ("UnauthorizedOperation", NOT_ALLOWED, "NotPermitted", "the permission ec2:RunInstances."),
        ("AuthFailure", "Not able to validate.", "BadCredentials", "does not take these credentials"),
        ("ExpiredToken", "It has expired.", "BadCredentials", "new ones"),
        ("InvalidSubnet.Conflict", "It conflicts.", "NetworkClash", "another range"),
        ("EntityAlreadyExists", "Role with name x already exists.", "NameTaken", "Remove it there"),
        ("DependencyViolation", "It has dependencies.", "InUse", "still uses it"),
        ("InvalidParameterCombination", "No.", "BadRequest", "AWS says: No"),
    ],
)
def test_each_refusal_says_why_and_what_to_do(code: str, message: str, reason: str, said: str) -> None:
    refusal = meaning(error(code, message), "Making a machine")
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason and said in refusal.message and "x9Y" not in refusal.message


def test_what_is_no_refusal() -> None:
    throttled = meaning(error("RequestLimitExceeded", "Slowly.", status=503, after="7"), "x")
    assert isinstance(throttled, Throttled) and throttled.after == 7
    assert isinstance(meaning(error("InternalError", "Oops.", status=500), "x"), Unclear)
    assert isinstance(meaning(error("InvalidVpcID.NotFound", "It is not there."), "x"), NotYet)
    profile = error("InvalidParameterValue", "Value (x) for parameter iamInstanceProfile.name is invalid.")
    assert isinstance(meaning(profile, "x"), NotYet)
    assert isinstance(meaning(error("InvalidParameterValue", "No such disk."), "x"), Refusal)


def test_a_refusal_ends_it_and_takes_all_back(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(making: Any) -> str:
        raise error("InsufficientInstanceCapacity", "We have none.")

    monkeypatch.setattr(ec2.Making, "machine", refuse)
    cluster = new_cluster()
    world.phase(cluster, "failed", timeout_seconds=60)
    assert cluster.reason == "NoCapacity" and "another machine type or region" in cluster.message
    assert (aws.remains(cloud), closed(cluster)) == ([], True)


def test_a_removal_that_is_refused_is_shown_and_never_given_up(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = new_cluster()
    world.phase(cluster, "joining")

    def refuse(client: Any, cloud_id: str, facts: Any) -> None:
        raise error("UnauthorizedOperation", "You are not authorized.", "DeleteSubnet", 403)

    real = ec2_kinds.KINDS["subnet"]
    blocked = ec2_kinds.Kind(real.describe, real.item, real.read, refuse)
    monkeypatch.setitem(ec2_kinds.KINDS, "subnet", blocked)
    want(cluster, WINDLASS, goal="delete")

    def shown() -> bool:
        cluster.refresh_from_db()
        return cluster.reason == "DeleteBlocked"

    world.until(shown)
    assert cluster.phase == "cleaning" and "ec2:DeleteSubnet" in cluster.message
    assert [line.state for line in lines(cluster) if line.key == "subnet"] == ["deleting"]
    monkeypatch.setitem(ec2_kinds.KINDS, "subnet", real)
    world.phase(cluster, "deleted", timeout_seconds=60)
    assert (aws.remains(cloud), closed(cluster)) == ([], True)


def test_a_chosen_network_that_is_not_there(world: World, cloud: str, new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(network={"vpc_id": "vpc-0a1b2c3d4e5f67890"})
    world.phase(cluster, "failed", timeout_seconds=60)
    assert cluster.reason == "BadRequest" and "There is no VPC vpc-0a1b2c3d4e5f67890" in cluster.message
    assert (aws.remains(cloud), closed(cluster)) == ([], True)


def test_looks_that_are_not_allowed_are_told_of(
    world: World, account: CloudAccount, new_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.phase(account, "ready")
    real = ec2.EC2.look

    def look(self: Any, called: Any, kind: str) -> Any:
        if kind == "network":
            raise meaning(error("UnauthorizedOperation", "No.", "DescribeVpcs", 403), "Looking at each network")
        return real(self, called, kind)

    monkeypatch.setattr(ec2.EC2, "look", look)
    cluster = new_cluster()

    def told() -> bool:
        cluster.refresh_from_db()
        return "ec2:DescribeVpcs" in cluster.message

    world.until(told)
    assert cluster.phase == "creating"
    monkeypatch.setattr(ec2.EC2, "look", real)
    world.phase(cluster, "joining", timeout_seconds=60)


def test_an_unknown_machine_type_says_which_there_are(world: World, new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(machine_type="x9.huge")
    world.phase(cluster, "failed")
    assert cluster.reason == "UnknownMachineType" and "m6i.large" in cluster.message


def test_an_account_in_an_unknown_region_says_which_there_are(world: World) -> None:
    account = new_account(world, "far", "mars-north-1")
    world.phase(account, "refused")
    assert account.reason == "UnknownRegion" and "eu-central-1" in account.message


def test_an_account_names_the_permission_that_it_lacks(
    world: World, account: CloudAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.providers import aws as ours

    real = ours._client

    class Limited:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            if name == "run_instances":
                return self.refuse
            return getattr(self.inner, name)

        def refuse(self, **_: Any) -> None:
            raise error("UnauthorizedOperation", NOT_ALLOWED, status=403)

    monkeypatch.setattr(ours, "_client", lambda *given: Limited(real(*given)))
    world.phase(account, "refused")
    assert [item["code"] for item in account.findings] == ["NotPermitted"]
    assert "ec2:RunInstances" in account.message and "arn:aws" in account.identity
    monkeypatch.setattr(ours, "_client", real)
    wake("cloud_account", [account.pk])
    world.phase(account, "ready")
    assert account.findings == []


def test_credentials_that_aws_does_not_take(
    world: World, account: CloudAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, called: Any) -> Any:
        raise meaning(error("InvalidClientTokenId", "The security token is invalid.", status=403), "Asking")

    monkeypatch.setattr(ec2.EC2, "check", refuse)
    world.phase(account, "refused")
    assert account.reason == "BadCredentials" and "Give the account new ones" in account.message
