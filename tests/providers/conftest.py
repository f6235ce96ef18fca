"""A workspace with an account of AWS (moto in server mode); reconcilers run in the test's own thread, in fast time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apps.accounts.models import Workspace
from apps.clouds.models import CloudAccount
from apps.clusters.models import CloudResource, Cluster
from apps.core.actor import WINDLASS
from apps.core.sealing import seal_field, unseal_field
from apps.core.wants import create
from tests.clouds import aws
from tests.clouds.api_server import ApiServer
from tests.spine.conftest import World, workspace

__all__ = ["workspace"]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with aws.serve() as address:
        yield address


@pytest.fixture
def cloud(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Its address, empty."""
    aws.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    return moto


@pytest.fixture
def world(workspace: Workspace, cloud: str, settings: Any) -> World:
    from workers.providers.aws import _client

    _client.cache_clear()  # clients of another test's address
    settings.WINDLASS_HINTS = False
    settings.WINDLASS_TIME_SCALE = 0.1
    settings.WINDLASS_ALLOWED_PRIVATE_CIDRS = ("127.0.0.0/8",)
    return World(workspace, ["reconcile"])


@pytest.fixture
def account(world: World) -> CloudAccount:
    return new_account(world)


def new_account(world: World, name: str = "ours", region: str = aws.REGION) -> CloudAccount:
    row = CloudAccount(workspace=world.workspace, name=name, provider="ec2", region=region)
    seal_field(row, "credentials", json.dumps(aws.CREDENTIALS).encode())
    return create(row, WINDLASS)


@pytest.fixture
def new_cluster(world: World, account: CloudAccount) -> Callable[..., Cluster]:
    def make(**wanted: Any) -> Cluster:
        first = {"name": "blue", "machine_type": "t3.medium", "machines": 1, "approved": True}
        usual = {"network": {"cidr": "10.20.0.0/16"}, "allowed_cidrs": ["203.0.113.0/24"], "reach": "nodes"}
        row = Cluster(
            workspace=world.workspace, provider="ec2", account=account, region=account.region, **first | usual | wanted
        )
        return create(row, WINDLASS)

    return make


@pytest.fixture
def kubernetes() -> Iterator[Callable[..., ApiServer]]:
    """Start what answers at a cluster's address, as its k3s would."""
    started: list[ApiServer] = []

    def start(cluster: Cluster, nodes: int | None = None) -> ApiServer:
        cluster.refresh_from_db()
        address = cluster.access["server"].split("//")[1].split(":")[0]
        credentials = json.loads(unseal_field(cluster, "credentials"))
        started.append(ApiServer(credentials, address, cluster.machines if nodes is None else nodes))
        return started[-1]

    yield start
    for server in started:
        server.close()


def lines(cluster: Cluster) -> list[CloudResource]:
    return list(CloudResource.objects.filter(cluster=cluster).order_by("pk"))


def closed(cluster: Cluster) -> bool:
    """Every line of its ledger."""
    return all(line.state == "gone" and line.gone_at for line in lines(cluster))
