"""AWS for tests: moto in server mode, with what it lacks and the real one has.

- RunInstances with a ClientToken that was used gives the machine of then.
- Public addresses are loopback ones (127.x.y.z, each used once), so that a test can answer there as the machine.
- A dry run of CreateVpc makes none.
- A machine that has ended is shown for a while only (there an hour, here FORGOTTEN_SECONDS).
- Removing a role from a profile that it is not in is "NoSuchEntity".

Run as a program it serves until it is stopped: `python -m tests.clouds.aws PORT`.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.backends import get_backend
from moto.ec2.models import elastic_network_interfaces, instances
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend
from moto.ec2.responses.vpcs import VPCs
from moto.iam.exceptions import NotFoundException
from moto.iam.models import IAMBackend
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
FORGOTTEN_SECONDS = 30.0
CREDENTIALS = {"access_key_id": "AKIATESTTESTTESTTEST", "secret_access_key": "secret"}
_lock = threading.RLock()


def _loopback() -> str:
    return f"127.{random.randint(16, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"


def _forget(backend: Any) -> None:
    """Put machines that ended a while ago out of sight; their client tokens stay known."""
    ended, forgotten = backend.__dict__.setdefault("ended", {}), backend.__dict__.setdefault("forgotten", {})
    now = time.monotonic()
    with _lock:
        for key, reservation in list(backend.reservations.items()):
            if any(instance.state != "terminated" for instance in reservation.instances):
                ended.pop(key, None)
            elif now - ended.setdefault(key, now) > FORGOTTEN_SECONDS:
                forgotten[key] = backend.reservations.pop(key)


def _without_the_forgotten(all_reservations: Any) -> Any:
    def shown(self: Any, *args: Any, **kwargs: Any) -> Any:
        _forget(self)
        return all_reservations(self, *args, **kwargs)

    return shown


def _run_once(run: Any) -> Any:
    def run_instances(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _lock:
            for reservation in [*self.reservations.values(), *self.__dict__.get("forgotten", {}).values()]:
                if reservation.instances and reservation.instances[0].client_token == kwargs["client_token"]:
                    return reservation
            return run(self, *args, **kwargs)

    return run_instances


def _remove_member(self: Any, profile_name: str, role_name: str) -> None:
    profile, role = self.get_instance_profile(profile_name), self.get_role(role_name)
    if role not in profile.roles:
        raise NotFoundException(f"{role_name} is not in {profile_name}")
    profile.roles.remove(role)


def _associate_once(associate: Any) -> Any:
    def associate_profile(self: Any, instance_id: str, *args: Any, **kwargs: Any) -> Any:
        """moto does it within RunInstances, which answers for the machine of then."""
        there = self.iam_instance_profile_associations.get(instance_id)
        return there or associate(self, instance_id, *args, **kwargs)

    return associate_profile


def _dry(create: Any) -> Any:
    def create_vpc(self: Any) -> Any:
        self.error_on_dryrun()
        return create(self)

    return create_vpc


def patch_moto() -> None:
    if not hasattr(instances.InstanceBackend, "patched"):
        instances.InstanceBackend.patched = True
        instances.InstanceBackend.run_instances = _run_once(instances.InstanceBackend.run_instances)
        instances.InstanceBackend.all_reservations = _without_the_forgotten(instances.InstanceBackend.all_reservations)
        elastic_network_interfaces.random_public_ip = _loopback
        profiles = IamInstanceProfileAssociationBackend
        profiles.associate_iam_instance_profile = _associate_once(profiles.associate_iam_instance_profile)
        VPCs.create_vpc = _dry(VPCs.create_vpc)
        IAMBackend.remove_role_from_instance_profile = _remove_member


def reset() -> None:
    for name in ("ec2", "iam", "sts"):
        for account in get_backend(name).values():
            for backend in list(account.values()):
                backend.reset()


@contextmanager
def serve(port: int = 0) -> Iterator[str]:
    """Yields its address."""
    patch_moto()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client(address: str, service: str, region: str = REGION) -> Any:
    """Asks moto itself, whatever stands before it."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=address,
        aws_access_key_id=CREDENTIALS["access_key_id"],
        aws_secret_access_key=CREDENTIALS["secret_access_key"],
    )


def remains(address: str, region: str = REGION) -> list[str]:
    """All that is there beyond what an empty account has, whoever made it: ids and names."""
    ec2, iam = client(address, "ec2", region), client(address, "iam", region)
    found = [
        item["InstanceId"]
        for reservation in ec2.describe_instances()["Reservations"]
        for item in reservation["Instances"]
        if item["State"]["Name"] != "terminated"
    ]
    default = {item["VpcId"] for item in ec2.describe_vpcs()["Vpcs"] if item["IsDefault"]}
    for listed, name in (
        (ec2.describe_vpcs()["Vpcs"], "VpcId"),
        (ec2.describe_subnets()["Subnets"], "SubnetId"),
        (ec2.describe_route_tables()["RouteTables"], "RouteTableId"),
        (ec2.describe_security_groups()["SecurityGroups"], "GroupId"),
    ):
        found += [item[name] for item in listed if item["VpcId"] not in default]
    found += [item["InternetGatewayId"] for item in ec2.describe_internet_gateways()["InternetGateways"]]
    found += [item["VolumeId"] for item in ec2.describe_volumes()["Volumes"]]
    found += [item["RoleName"] for item in iam.list_roles()["Roles"]]
    found += [item["InstanceProfileName"] for item in iam.list_instance_profiles()["InstanceProfiles"]]
    return found


def machines(address: str, region: str = REGION) -> list[dict[str, Any]]:
    """Every machine, ended ones too."""
    pages = client(address, "ec2", region).get_paginator("describe_instances").paginate()
    return [item for page in pages for reservation in page["Reservations"] for item in reservation["Instances"]]


if __name__ == "__main__":
    with serve(int(sys.argv[1])) as at:
        print(at, flush=True)
        while True:
            time.sleep(3600)
