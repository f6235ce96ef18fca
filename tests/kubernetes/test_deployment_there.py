"""A deployment on a Kubernetes: its replica's pod answers through a real Envoy, by the same address and key."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.accounts.models import ApiKey
from apps.clusters.models import Cluster
from apps.core.actor import WINDLASS
from apps.core.wants import want
from apps.deployments.models import Deployment, UsageWindow
from apps.placements.models import Place, Placement, Reservation
from tests.clouds.kubernetes.simulator import Kubernetes
from tests.gateway.harness import Gateway
from tests.spine.conftest import World
from tests.spine.test_deployment import KEY, deployment  # noqa: F401


@pytest.fixture
def envoy(world: World, settings: Any) -> Iterator[Gateway]:
    directory = Path(tempfile.mkdtemp(prefix="windlass-envoy-"))
    gateway = Gateway(directory)
    settings.WINDLASS_GATEWAY_DIRECTORY = directory
    settings.WINDLASS_GATEWAY_ADMIN_SOCKET = directory / "admin.sock"
    gateway.start()
    yield gateway
    gateway.kill()
    shutil.rmtree(directory, ignore_errors=True)


def predict(gateway: Gateway, key: str = KEY) -> httpx.Response:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, -2]}]}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}/team/tiny/v2/models/tiny/infer", json=body, headers=headers, timeout=5)


def test_it_answers_is_counted_and_goes(
    world: World, far: Place, kube: Kubernetes, envoy: Gateway, settings: Any, deployment: Deployment  # noqa: F811
) -> None:  # fmt: skip
    want(deployment, WINDLASS, spec={"spread": [{"place": far.typed_id, "replicas": 1, "weight": 100}]})
    world.phase(deployment, "serving", timeout_seconds=60)
    world.until(lambda: predict(envoy).status_code == 200, 30)
    answer = predict(envoy)
    assert answer.json()["outputs"][0]["data"] == [-1, 2]
    assert predict(envoy, "wl_other").status_code == 401
    assert [pod["status"]["podIP"][:4] for pod in kube.objects("pods")] == ["127."]

    # The control plane is away: whoever could call goes on calling, also with a key that is revoked meanwhile.
    settings.ROOT_URLCONF, before = "tests.kubernetes.nothing", settings.ROOT_URLCONF
    ApiKey.objects.update(revoked_at="2026-01-01T00:00:00Z")
    ends, answered = time.monotonic() + 7, 0
    while time.monotonic() < ends:
        assert predict(envoy).status_code == 200
        answered += 1
        time.sleep(0.5)
    settings.ROOT_URLCONF = before
    back = time.monotonic()
    world.until(lambda: predict(envoy).status_code == 401, 12)
    assert time.monotonic() - back <= 10

    want(deployment, WINDLASS, goal="stop")
    world.phase(deployment, "stopped", timeout_seconds=60)
    statuses = [window.statuses for window in UsageWindow.objects.all()]
    assert sum(status.get("200", 0) for status in statuses) >= answered + 2, "pushed, to its last word"
    want(deployment, WINDLASS, goal="delete")
    world.phase(deployment, "deleted", timeout_seconds=60)
    assert Reservation.objects.count() == 0
    assert kube.objects("pods") == []


def test_a_port_of_the_machine_leads_to_it_where_pods_are_out_of_reach(
    world: World, far: Place, kube: Kubernetes, envoy: Gateway, deployment: Deployment  # noqa: F811
) -> None:  # fmt: skip
    Cluster.objects.update(reach="nodes")
    want(deployment, WINDLASS, spec={"spread": [{"place": far.typed_id, "replicas": 1, "weight": 100}]})
    world.phase(deployment, "serving", timeout_seconds=60)
    world.until(lambda: predict(envoy).status_code == 200, 30)
    (rank,) = Placement.objects.get().observed["ranks"]
    assert (rank["address"], 20_000 <= rank["port"] < 30_000) == ("127.0.0.1", True)
