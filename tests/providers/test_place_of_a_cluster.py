"""A cluster's place: made when it is ready, emptied before the cluster goes, closed with it. Bought or brought."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.utils import timezone

from apps.clusters.models import Cluster
from apps.core.actor import WINDLASS
from apps.core.sealing import seal_field
from apps.core.wants import create, want
from apps.placements.models import Place, Placement
from apps.placements.workload import Workload
from tests.clouds.api_server import ApiServer
from tests.spine.conftest import World
from workers.providers.bootstrap import make_credentials

CREDENTIALS = make_credentials("theirs")


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer(CREDENTIALS, "127.0.0.1", 2, port=0)
    yield server
    server.close()


def brought(world: World, api: ApiServer) -> Cluster:
    def plain(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    port = api.server.server_address[1]
    authority = plain(CREDENTIALS["authorities"]["server"]["certificate"])
    client = CREDENTIALS["client"]
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}}
        ],
        "users": [
            {
                "name": "u",
                "user": {
                    "client-certificate-data": plain(client["certificate"]),
                    "client-key-data": plain(client["key"]),
                },
            }
        ],
    }
    row = Cluster(workspace=world.workspace, name="theirs", provider="kubeconfig", machines=0, disk_gib=0)
    row.approved = True
    seal_field(row, "kubeconfig", yaml.safe_dump(content).encode())
    return create(row, WINDLASS)


def placed(world: World, place: Place) -> Placement:
    workload = Workload("plc-x", "job", ("python",)).to_json()
    owner: dict[str, Any] = {"owner_kind": "training_run", "owner_id": world.workspace.pk}
    return Placement.objects.create(
        workspace=world.workspace, place=place, slot="node-0", phase="running", workload=workload, queue="none", **owner
    )


def test_a_kubernetes_that_was_there_is_joined_and_let_go(world: World, api: ApiServer) -> None:
    cluster = brought(world, api)
    world.phase(cluster, "ready")
    place = Place.objects.get(cluster=cluster)
    assert (place.target, place.capacity["cpus"], cluster.plan) == ("kubernetes", 3.8, [])
    want(cluster, WINDLASS, goal="delete")
    world.phase(cluster, "deleted")
    place.refresh_from_db()
    assert place.gone_at is not None and place.goal == "delete"


def test_one_that_does_not_answer_any_more_is_degraded_until_it_does(world: World, api: ApiServer) -> None:
    cluster = brought(world, api)
    world.phase(cluster, "ready")
    api.ready = False
    Cluster.objects.filter(pk=cluster.pk).update(due_at=timezone.now())
    world.phase(cluster, "degraded")
    assert "it has no network yet" in cluster.message
    api.ready = True
    world.phase(cluster, "ready")


def test_what_runs_there_goes_first(world: World, api: ApiServer) -> None:
    cluster = brought(world, api)
    world.phase(cluster, "ready")
    place = Place.objects.get(cluster=cluster)
    placement = placed(world, place)
    want(cluster, WINDLASS, goal="delete")

    def asked() -> bool:
        placement.refresh_from_db()
        return placement.goal == "delete"

    world.until(asked)
    place.refresh_from_db()
    cluster.refresh_from_db()
    assert (cluster.phase, place.gone_at, place.capacity) == ("cleaning", None, {})
    assert "1 left" in cluster.message
    Placement.objects.filter(pk=placement.pk).update(phase="deleted", due_at=None)
    world.phase(cluster, "deleted")


def test_what_can_not_be_taken_away_does_not_keep_it_for_ever(world: World, api: ApiServer) -> None:
    cluster = brought(world, api)
    world.phase(cluster, "ready")
    placement = placed(world, Place.objects.get(cluster=cluster))
    want(cluster, WINDLASS, goal="delete")
    world.phase(cluster, "cleaning")
    Cluster.objects.filter(pk=cluster.pk).update(phase_since=timezone.now().replace(year=2020))
    world.phase(cluster, "deleted")
    placement.refresh_from_db()
    assert placement.place.gone_at is not None
