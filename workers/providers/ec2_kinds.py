"""How EC2 lists, shows and removes each kind of resource: a row of a table each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workers.providers import ec2_offers
from workers.providers.contract import Seen

EVERYWHERE = "0.0.0.0/0"
PREEMPTED = "Server.SpotInstanceTermination"
HEALTH = {"pending": "pending", "running": "live", "stopped": "failed", "terminated": "gone"}
ENDS = {
    PREEMPTED: ("AWS took it back to give it to somebody else (a preemption).", ""),
    "Server.InsufficientInstanceCapacity": ("AWS had no such machine free after all.", "NoCapacity"),
    "Client.VolumeLimitExceeded": ("The quota for disks of this AWS account is used up.", "QuotaExceeded"),
    "Client.UserInitiatedShutdown": ("Somebody with rights in the AWS account removed it.", ""),
    "Client.InstanceInitiatedShutdown": ("It was shut down from within.", ""),
}


@dataclass(frozen=True)
class Kind:
    """How one kind is listed, read and removed. `item`: where in the answer of `describe` its things are."""

    describe: str
    item: str
    read: Callable[[Mapping[str, Any]], Iterator[Seen]]
    remove: Callable[[Any, str, Mapping[str, Any]], Any]
    service: str = "ec2"


def _tagged(id_field: str, facts: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None) -> Any:
    def read(item: Mapping[str, Any]) -> Iterator[Seen]:
        tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}
        health: Any = "pending" if item.get("State") == "pending" else "live"
        found = facts(item) if facts else {}
        yield Seen(item[id_field], tags.get("windlass-token", ""), health, found, tags.get("windlass-cluster", ""))

    return read


def _machine(item: Mapping[str, Any]) -> Iterator[Seen]:
    tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}
    state, reason = item["State"]["Name"], item.get("StateReason", {})
    code = reason.get("Code", "")
    facts: dict[str, Any] = {
        "private_ip": item.get("PrivateIpAddress", ""),
        "public_ip": item.get("PublicIpAddress", ""),
    }
    if state not in {"pending", "running"}:
        why, refusal = ENDS.get(code, (reason.get("Message", ""), ""))
        facts |= {"why": why, "refusal": refusal, "preempted": code == PREEMPTED}
    region = item.get("Placement", {}).get("AvailabilityZone", "")[:-1]
    price = ec2_offers.machine_price(item.get("InstanceType", ""), region)
    health: Any = HEALTH.get(state, "stopping")
    token, cluster = tags.get("windlass-token", ""), tags.get("windlass-cluster", "")
    yield Seen(item["InstanceId"], token, health, facts, cluster, price)


def _in_path(name_field: str) -> Any:
    """IAM lists no tags, so the path of what we make there ends in the token: /windlass/<installation>/<token>/."""

    def read(item: Mapping[str, Any]) -> Iterator[Seen]:
        yield Seen(item[name_field], item["Path"].rstrip("/").rsplit("/", 1)[-1], "live")

    return read


def _attachments(item: Mapping[str, Any]) -> Iterator[Seen]:
    for found in item.get("Attachments", []):
        yield Seen(f"{item['InternetGatewayId']}/{found['VpcId']}", "", "live")


def _routes(item: Mapping[str, Any]) -> Iterator[Seen]:
    for found in item.get("Routes", []):
        if found.get("DestinationCidrBlock") == EVERYWHERE:
            yield Seen(f"{item['RouteTableId']}/{EVERYWHERE}", "", "live")


def _associations(item: Mapping[str, Any]) -> Iterator[Seen]:
    for found in item.get("Associations", []):
        if found.get("SubnetId"):
            facts = {"association": found["RouteTableAssociationId"]}
            yield Seen(f"{item['RouteTableId']}/{found['SubnetId']}", "", "live", facts)


def _rules(item: Mapping[str, Any]) -> Iterator[Seen]:
    if item.get("IpPermissions"):
        yield Seen(f"{item['GroupId']}/ingress", "", "live", {"permissions": item["IpPermissions"]})


def _memberships(item: Mapping[str, Any]) -> Iterator[Seen]:
    for role in item.get("Roles", []):
        yield Seen(f"{item['InstanceProfileName']}/{role['RoleName']}", "", "live")


def _halves(cloud_id: str, first: str, second: str) -> dict[str, str]:
    left, right = cloud_id.split("/", 1)
    return {first: left, second: right}


KINDS: dict[str, Kind] = {
    "network": Kind("describe_vpcs", "Vpcs[]", _tagged("VpcId"), lambda c, i, f: c.delete_vpc(VpcId=i)),
    "gateway": Kind(
        "describe_internet_gateways",
        "InternetGateways[]",
        _tagged("InternetGatewayId"),
        lambda c, i, f: c.delete_internet_gateway(InternetGatewayId=i),
    ),
    "attachment": Kind(
        "describe_internet_gateways",
        "InternetGateways[]",
        _attachments,
        lambda c, i, f: c.detach_internet_gateway(**_halves(i, "InternetGatewayId", "VpcId")),
    ),
    "subnet": Kind("describe_subnets", "Subnets[]", _tagged("SubnetId"), lambda c, i, f: c.delete_subnet(SubnetId=i)),
    "table": Kind(
        "describe_route_tables",
        "RouteTables[]",
        _tagged("RouteTableId"),
        lambda c, i, f: c.delete_route_table(RouteTableId=i),
    ),
    "route": Kind(
        "describe_route_tables",
        "RouteTables[]",
        _routes,
        lambda c, i, f: c.delete_route(**_halves(i, "RouteTableId", "DestinationCidrBlock")),
    ),
    "association": Kind(
        "describe_route_tables",
        "RouteTables[]",
        _associations,
        lambda c, i, f: c.disassociate_route_table(AssociationId=f["association"]),
    ),
    "firewall": Kind(
        "describe_security_groups",
        "SecurityGroups[]",
        _tagged("GroupId"),
        lambda c, i, f: c.delete_security_group(GroupId=i),
    ),
    "rules": Kind(
        "describe_security_groups",
        "SecurityGroups[]",
        _rules,
        lambda c, i, f: c.revoke_security_group_ingress(GroupId=i.split("/")[0], IpPermissions=f["permissions"]),
    ),
    "role": Kind("list_roles", "Roles[]", _in_path("RoleName"), lambda c, i, f: c.delete_role(RoleName=i), "iam"),
    "profile": Kind(
        "list_instance_profiles",
        "InstanceProfiles[]",
        _in_path("InstanceProfileName"),
        lambda c, i, f: c.delete_instance_profile(InstanceProfileName=i),
        "iam",
    ),
    "membership": Kind(
        "list_instance_profiles",
        "InstanceProfiles[]",
        _memberships,
        lambda c, i, f: c.remove_role_from_instance_profile(**_halves(i, "InstanceProfileName", "RoleName")),
        "iam",
    ),
    "machine": Kind(
        "describe_instances",
        "Reservations[].Instances[]",
        _machine,
        lambda c, i, f: c.terminate_instances(InstanceIds=[i]),
    ),
}
