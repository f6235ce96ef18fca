"""Amazon EC2: a network of its own (or a subnet of one that is there), a firewall, a role, machines without keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from botocore.exceptions import ClientError

from workers.providers import ec2_offers
from workers.providers.aws import client, is_missing, translated
from workers.providers.bootstrap import addressed
from workers.providers.contract import (
    Account,
    Checked,
    ClusterSpec,
    Finding,
    MachineOffer,
    NotYet,
    Refusal,
    Resource,
    Seen,
)
from workers.providers.ec2_kinds import EVERYWHERE, KINDS

IMAGE = "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
ROOT_DISK = "/dev/sda1"
METADATA = "http://169.254.169.254/latest"
API_PORT = 6443
REPLICA_PORTS = (20000, 29999)
ALREADY = re.compile(
    r"AlreadyAssociated|InvalidPermission\.Duplicate|RouteAlreadyExists|EntityAlreadyExists|^LimitExceeded$"
)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
# what Windlass needs, as dry runs: the permission's call and what it must be told to get that far
PROBES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("describe_vpcs", {}),
    ("describe_internet_gateways", {}),
    ("describe_subnets", {}),
    ("describe_route_tables", {}),
    ("describe_security_groups", {}),
    ("describe_instances", {}),
    ("create_vpc", {"CidrBlock": "10.20.0.0/16"}),
    ("create_subnet", {"VpcId": "vpc-00000000", "CidrBlock": "10.20.0.0/16"}),
    ("create_internet_gateway", {}),
    ("create_security_group", {"GroupName": "windlass-check", "Description": "check", "VpcId": "vpc-00000000"}),
    ("run_instances", {"ImageId": IMAGE, "InstanceType": "t3.medium", "MinCount": 1, "MaxCount": 1}),
    ("terminate_instances", {"InstanceIds": ["i-00000000"]}),
)


class EC2:
    name = "ec2"
    kinds = tuple(KINDS)
    machine_kind = "machine"
    own_address = (
        f"token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' {METADATA}/api/token); "
        f'curl -sf -H "X-aws-ec2-metadata-token: $token" {METADATA}/meta-data/public-ipv4'
    )

    def check(self, account: Account) -> Checked:
        if account.region not in ec2_offers.REGIONS:
            known = ", ".join(ec2_offers.REGIONS)
            raise Refusal(
                "UnknownRegion", f"No prices of EC2 in “{account.region}” are known here. There are: {known}."
            )
        with translated("Asking AWS who these credentials are"):
            identity = client(account, "sts").get_caller_identity()["Arn"]
        findings = []
        for call, needed in PROBES:
            finding = self._missing(account, "ec2", call, {**needed, "DryRun": True})
            findings += [finding] if finding else []
        for call in ("list_roles", "list_instance_profiles"):
            finding = self._missing(account, "iam", call, {"PathPrefix": f"/windlass/{account.installation}/"})
            findings += [finding] if finding else []
        return Checked(identity, tuple(findings))

    def _missing(self, account: Account, service: str, call: str, needed: Mapping[str, Any]) -> Finding | None:
        try:
            with translated("A try without effect"):
                getattr(client(account, service), call)(**needed)
        except Refusal as refusal:
            if refusal.reason == "BadCredentials":
                raise
            if refusal.reason == "NotPermitted":
                lacks = f"The credentials lack the permission {refusal.permission}."
                return Finding("NotPermitted", lacks, f"Add {refusal.permission} to their policy in AWS's IAM console.")
        except NotYet:
            pass  # what the try named is not there, which it was not meant to be
        return None

    def offers(self) -> Iterable[MachineOffer]:
        return ec2_offers.offers()

    def prices(self, region: str) -> Mapping[str, float]:
        return ec2_offers.prices(region)

    def graph(self, spec: ClusterSpec) -> tuple[Resource, ...]:
        own = {"cluster": spec.name}
        if spec.network.get("vpc_id"):
            before = [
                Resource("subnet", "subnet", "A subnet in the chosen VPC", (), own | {"vpc": spec.network["vpc_id"]})
            ]
            inside: tuple[str, ...] = ()
            online: tuple[str, ...] = ()
        else:
            inside, online = ("network",), ("route", "association")
            before = [
                Resource("network", "network", "A network (VPC)", (), own | {"cidr": spec.network["cidr"]}),
                Resource("gateway", "gateway", "An internet gateway", (), own),
                _nested("attachment", "The gateway in the network", ("gateway", "network"), "{gateway}/{network}"),
                Resource("subnet", "subnet", "A subnet", ("network",), own | {"cidr": spec.network["cidr"]}),
                Resource("table", "table", "A route table", ("network",), own),
                _nested(
                    "route", "A route to the internet", ("table", "gateway", "attachment"), "{table}/" + EVERYWHERE
                ),
                _nested("association", "The routes of the subnet", ("table", "subnet"), "{table}/{subnet}"),
            ]
        vpc = {"vpc": spec.network.get("vpc_id", "")}
        return (
            *before,
            Resource("firewall", "firewall", "A security group", inside, own | vpc),
            _nested("rules", "Its rules", ("firewall",), "{firewall}/ingress", {"cidrs": spec.allowed_cidrs}),
            Resource("role", "role", "A role without any right", (), own),
            Resource("profile", "profile", "An instance profile", (), own),
            _nested("membership", "The role in the profile", ("profile", "role"), "{profile}/{role}"),
            *self._machines(spec, ("subnet", "firewall", "rules", "profile", "membership", *online)),
        )

    def _machines(self, spec: ClusterSpec, needs: tuple[str, ...]) -> Iterator[Resource]:
        disk = spec.disk_gib * spec.prices["disk_gib"]
        price = spec.prices.get(spec.machine_type, 0.0) + disk + spec.prices["address"]
        for number in range(spec.machines):
            what = f"A machine {spec.machine_type} with {spec.disk_gib} GiB ({'worker' if number else 'server'})"
            detail = {"cluster": spec.name, "machine_type": spec.machine_type, "disk_gib": spec.disk_gib}
            detail["user_data"] = spec.bootstrap[number] if spec.bootstrap else ""
            after = (*needs, "machine-0") if number else needs
            yield Resource(f"machine-{number}", "machine", what, after, detail, price, repeatable=True)

    def create(self, account: Account, resource: Resource, name: str, needs: Mapping[str, Seen], token: str) -> str:
        making = Making(account, resource, name, {key: seen.cloud_id for key, seen in needs.items()}, token, needs)
        try:
            with translated(f"Making {resource.what[0].lower()}{resource.what[1:]}"):
                return str(getattr(making, resource.kind)())
        except (Refusal, NotYet) as error:
            cause = error.__cause__
            code = str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""
            if resource.known_id and ALREADY.search(code):
                return resource.known_id.format(**making.ids)
            if code == "InvalidVpcID.NotFound" and (vpc := resource.spec.get("vpc")):
                words = f"There is no VPC {vpc} in {account.region}. Choose one that is there, or a range of its own."
                raise Refusal("BadRequest", words) from error
            raise

    def remove(self, account: Account, kind: str, cloud_id: str, facts: Mapping[str, Any]) -> bool:
        found = KINDS[kind]
        with translated(f"Removing {cloud_id}"):
            try:
                found.remove(client(account, found.service), cloud_id, facts)
            except ClientError as error:
                if is_missing(error):
                    return False
                raise
        return True

    def look(self, account: Account, kind: str) -> dict[str, Seen]:
        found = KINDS[kind]
        if found.service == "iam":
            only: dict[str, Any] = {"PathPrefix": f"/windlass/{account.installation}/"}
        else:
            only = {"Filters": [{"Name": "tag:windlass-installation", "Values": [account.installation]}]}
        with translated(f"Looking at each {kind}"):
            pages = client(account, found.service).get_paginator(found.describe).paginate(**only)
            return {seen.cloud_id: seen for item in pages.search(found.item) if item for seen in found.read(item)}

    def list_owned(self, account: Account) -> Iterator[tuple[str, Seen]]:
        for kind in self.kinds:
            for seen in self.look(account, kind).values():
                if seen.token and seen.health != "gone":
                    yield kind, seen


def _nested(
    key: str, what: str, needs: tuple[str, ...], known_id: str, spec: Mapping[str, Any] | None = None
) -> Resource:
    return Resource(key, key, what, needs, spec or {}, repeatable=True, known_id=known_id)


@dataclass(frozen=True)
class Making:
    """The one mutating call that makes a resource, by its kind; each returns the id."""

    account: Account
    resource: Resource
    name: str
    ids: Mapping[str, str]
    token: str
    needs: Mapping[str, Seen]

    @property
    def ec2(self) -> Any:
        return client(self.account, "ec2")

    @property
    def iam(self) -> Any:
        return client(self.account, "iam")

    @property
    def tags(self) -> list[dict[str, str]]:
        cluster = self.resource.spec["cluster"]
        ours = {"Name": self.name, "windlass-installation": self.account.installation, "windlass-cluster": cluster}
        return [{"Key": key, "Value": value} for key, value in {**ours, "windlass-token": self.token}.items()]

    def tagged(self, *types: str) -> dict[str, Any]:
        return {"TagSpecifications": [{"ResourceType": name, "Tags": self.tags} for name in types]}

    @property
    def path(self) -> str:
        return f"/windlass/{self.account.installation}/{self.token}/"

    def network(self) -> str:
        return self.ec2.create_vpc(CidrBlock=self.resource.spec["cidr"], **self.tagged("vpc"))["Vpc"]["VpcId"]

    def gateway(self) -> str:
        made = self.ec2.create_internet_gateway(**self.tagged("internet-gateway"))
        return made["InternetGateway"]["InternetGatewayId"]

    def attachment(self) -> str:
        self.ec2.attach_internet_gateway(InternetGatewayId=self.ids["gateway"], VpcId=self.ids["network"])
        return self.resource.known_id.format(**self.ids)

    def subnet(self) -> str:
        vpc = self.ids.get("network") or self.resource.spec["vpc"]
        cidr = self.resource.spec.get("cidr") or self.free_range(vpc)
        return self.ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, **self.tagged("subnet"))["Subnet"]["SubnetId"]

    def free_range(self, vpc: str) -> str:
        """The first /24 of a VPC that is there of which no subnet has a part."""
        only = [{"Name": "vpc-id", "Values": [vpc]}]
        taken = [IPv4Network(item["CidrBlock"]) for item in self.ec2.describe_subnets(Filters=only)["Subnets"]]
        whole = IPv4Network(self.ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["CidrBlock"])
        for part in whole.subnets(new_prefix=max(24, whole.prefixlen)):
            if not any(part.overlaps(other) for other in taken):
                return str(part)
        raise Refusal("NetworkClash", f"{vpc} has no free range of 256 addresses left. Choose another network.")

    def table(self) -> str:
        made = self.ec2.create_route_table(VpcId=self.ids["network"], **self.tagged("route-table"))
        return made["RouteTable"]["RouteTableId"]

    def route(self) -> str:
        self.ec2.create_route(
            RouteTableId=self.ids["table"], DestinationCidrBlock=EVERYWHERE, GatewayId=self.ids["gateway"]
        )
        return self.resource.known_id.format(**self.ids)

    def association(self) -> str:
        self.ec2.associate_route_table(RouteTableId=self.ids["table"], SubnetId=self.ids["subnet"])
        return self.resource.known_id.format(**self.ids)

    def firewall(self) -> str:
        vpc = self.ids.get("network") or self.resource.spec["vpc"]
        about = f"Windlass cluster {self.resource.spec['cluster']}"
        return self.ec2.create_security_group(
            GroupName=self.name, Description=about, VpcId=vpc, **self.tagged("security-group")
        )["GroupId"]

    def rules(self) -> str:
        group = self.ids["firewall"]
        permissions: list[dict[str, Any]] = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
        if allowed := [{"CidrIp": cidr} for cidr in self.resource.spec["cidrs"]]:
            for first, last in ((API_PORT, API_PORT), REPLICA_PORTS):
                permissions.append({"IpProtocol": "tcp", "FromPort": first, "ToPort": last, "IpRanges": allowed})
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=permissions)
        return self.resource.known_id.format(**self.ids)

    def role(self) -> str:
        document = json.dumps(TRUST)
        made = self.iam.create_role(
            RoleName=self.name, Path=self.path, AssumeRolePolicyDocument=document, Tags=self.tags
        )
        return made["Role"]["RoleName"]

    def profile(self) -> str:
        made = self.iam.create_instance_profile(InstanceProfileName=self.name, Path=self.path, Tags=self.tags)
        return made["InstanceProfile"]["InstanceProfileName"]

    def membership(self) -> str:
        self.iam.add_role_to_instance_profile(InstanceProfileName=self.ids["profile"], RoleName=self.ids["role"])
        return self.resource.known_id.format(**self.ids)

    def machine(self) -> str:
        spec = self.resource.spec
        server = self.needs.get("machine-0")
        disk = {"VolumeSize": spec["disk_gib"], "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
        card = {"DeviceIndex": 0, "SubnetId": self.ids["subnet"], "Groups": [self.ids["firewall"]]}
        made = self.ec2.run_instances(
            ImageId=IMAGE,
            InstanceType=spec["machine_type"],
            MinCount=1,
            MaxCount=1,
            ClientToken=self.token,
            UserData=addressed(spec["user_data"], server.facts["private_ip"] if server else ""),
            NetworkInterfaces=[{**card, "AssociatePublicIpAddress": True, "DeleteOnTermination": True}],
            IamInstanceProfile={"Name": self.ids["profile"]},
            BlockDeviceMappings=[{"DeviceName": ROOT_DISK, "Ebs": disk}],
            MetadataOptions={"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            InstanceInitiatedShutdownBehavior="terminate",
            **self.tagged("instance", "volume", "network-interface"),
        )
        return made["Instances"][0]["InstanceId"]
