"""Hundreds of clusters under random faults: nothing leaked, nothing doubled, nothing stuck, every ledger line closed.

`FAULT_SEED=N LIVES=M python -m pytest -s tests/faults/test_cloud_lives.py` replays a seed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from apps.accounts.models import Workspace
from apps.clusters.models import CloudResource, Cluster
from tests.clouds import aws
from tests.clouds.proxy import Chance, Proxy, serve
from tests.faults.cloud_lives import Killer, Lives
from tests.faults.product import free_port, until
from tests.figures import measured
from tests.providers.conftest import new_account
from tests.spine.conftest import World, workspace

__all__ = ["workspace"]
SEED, COUNT = int(os.environ.get("FAULT_SEED", "1")), int(os.environ.get("LIVES", "200"))
SCALE, HIDE_SECONDS = 0.03, 30.0
CLUSTER_NAME = len("cls-") + 26


@pytest.fixture
def moto() -> Iterator[str]:
    """In a process of its own, since it works as much as the reconcilers do."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.clouds.aws", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    until(lambda: _answers(port), 30, "moto answers")
    yield address
    process.terminate()
    process.wait()


def _answers(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


def doubled(proxy: Proxy, moto: str) -> list[str]:
    """Tokens with which two things were made, and keys of a cluster of which two machines lived at once."""
    found = [f"{token}: {sorted(made)}" for token, made in proxy.made_by_token().items() if len(made) > 1]
    lines = CloudResource.objects.exclude(cloud_id="").order_by("cluster", "key", "attempt")
    before: Any = None
    for line in lines:
        same = before is not None and (before.cluster_id, before.key) == (line.cluster_id, line.key)
        if same and (before.gone_at is None or before.gone_at > line.intended_at):
            found.append(f"{line.name} was made before {before.name} was gone")
        before = line
    return found


@pytest.mark.timeout(1500)
def test_random_lives(workspace: Workspace, moto: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.providers.aws import _client

    _client.cache_clear()
    settings.WINDLASS_HINTS = False
    settings.WINDLASS_TIME_SCALE = SCALE
    settings.WINDLASS_ALLOWED_PRIVATE_CIDRS = ("127.0.0.0/8",)
    began = time.monotonic()
    proxy = Proxy(moto, lambda request: "", HIDE_SECONDS * SCALE, SEED)

    def name(subject: str) -> str:
        """Its own, "c7-machine-0", of a name that has the cluster's random id in it."""
        cluster = subject[:CLUSTER_NAME]
        return proxy.subjects.get(cluster, cluster) + subject[CLUSTER_NAME:]

    with serve(proxy) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        world = World(workspace, ["reconcile"])
        account = new_account(world)
        world.phase(account, "ready")
        proxy.choose = Chance(SEED, name)
        killer = Killer(SEED, monkeypatch)
        lives = Lives(SEED, COUNT, account, proxy, moto)
        lives.run()
    remains, twice = aws.remains(moto), doubled(proxy, moto)
    still_open = CloudResource.objects.filter(gone_at=None).count()
    extra = CloudResource.objects.filter(attempt__gt=1).count()
    print(f"replay: FAULT_SEED={SEED} LIVES={COUNT} python -m pytest -s {__file__}", flush=True)
    measured("cluster lives under random faults", Cluster.objects.count(), "lives", f"{COUNT}", True)
    for fault, count in sorted(proxy.faults.items()):
        measured(f"faults of the cloud: {fault}", count, "faults", "reported", True)
    measured("workers killed", killer.kills.total(), "kills", "reported", True)
    measured("machines ended behind our back", lives.mishaps.total(), "machines", "reported", True)
    measured("resources leaked", len(remains), "resources", "0", not remains)
    measured("resources made twice", len(twice), "resources", "0", not twice)
    measured("lives stuck", len(lives.stuck), "lives", "0", not lives.stuck)
    measured("ledger lines left open", still_open, "lines", "0", not still_open)
    measured("attempts beyond the first", extra, "attempts", "reported", True)
    measured("lives took", round(time.monotonic() - began), "s", "reported", True)
    print(f"ended in: {dict(lives.ends)}; killed at: {dict(killer.kills)}", flush=True)
    assert (remains, twice, lives.stuck, still_open, lives.crashes) == ([], [], [], 0, [])
