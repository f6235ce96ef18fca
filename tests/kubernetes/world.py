"""The world of the spine's tests with a Kubernetes in it: a brought cluster, ready, and a web server for its pods."""

from __future__ import annotations

from typing import Any

import pytest

from apps.accounts.models import Workspace
from apps.clusters.models import Cluster
from apps.core.actor import WINDLASS
from apps.core.sealing import seal_field
from apps.core.wants import create
from apps.placements.models import Place
from tests.clouds.kubernetes.simulator import Kubernetes


@pytest.fixture
def far(world: Any, workspace: Workspace, kube: Kubernetes, live_server: Any, settings: Any) -> Place:
    from workers import targets

    settings.WINDLASS_ALLOWED_PRIVATE_CIDRS = ("127.0.0.0/8",)
    settings.WINDLASS_PARTS_URL = live_server.url
    settings.WINDLASS_IMAGE = "windlass:test"
    targets.clusters.cache_clear()
    cluster = Cluster(workspace=workspace, name="far", provider="kubeconfig", phase="ready", queue="elsewhere")
    seal_field(cluster, "kubeconfig", kube.kubeconfig().encode())
    create(cluster, WINDLASS)
    has = {"cpus": 32.0, "memory_bytes": 32 * 2**30, "gpus": 0}
    place = Place(workspace=workspace, target="kubernetes", cluster=cluster, queue="reconcile", capacity=has)
    return create(place, WINDLASS)
