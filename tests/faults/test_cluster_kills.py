"""A worker that dies at any point of a cluster's life: the next one goes on, nothing is doubled and nothing left.

The death is an exception that nothing catches, after which the lease is taken for expired: all points are walked in
minutes. `KILLS=point:passes pytest ...` walks one again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from django.utils import timezone

from apps.clouds.models import CloudAccount, CloudSight
from apps.clusters.models import CloudResource, Cluster
from apps.core.actor import WINDLASS
from apps.core.wants import wake, want
from tests.clouds import aws
from tests.providers.conftest import account, closed, cloud, lines, moto, new_cluster, workspace, world
from tests.spine.conftest import World
from workers import engine
from workers.providers import graph
from workers.reconcilers import RECONCILERS, accounts, sights

__all__ = ["account", "cloud", "moto", "new_cluster", "workspace", "world"]
OURS = ("cloud.", "record.cluster.", "apply.cluster.", "claimed.cluster.", "apply.cloud_sight.")
BY_EACH = ("cloud.create.before", "cloud.create.answered", "cloud.remove.answered")  # each resource passes by itself
RESOURCES = 13


class Killed(BaseException):
    pass


class Reaper:
    """Counts the points passed; dies once at `name`, after `passes` passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed: dict[str, int] = {}
        self.name, self.passes = "", 0
        for module in (engine, graph, sights, accounts):
            monkeypatch.setattr(module, "point", self.point)

    def arm(self, name: str, passes: int) -> None:
        self.passed, self.name, self.passes = {}, name, passes

    def point(self, name: str) -> None:
        self.passed[name] = self.passed.get(name, 0) + 1
        if name == self.name and self.passed[name] == self.passes + 1:
            self.name = ""
            raise Killed(name)


class Mortal(World):
    def beat(self) -> int:
        found = [item for queue in self.queues for item in engine.due(queue)]
        for kind, row_id in found:
            try:
                engine.reconcile(kind, row_id, RECONCILERS)
            except Killed:
                for model in (Cluster, CloudSight, CloudAccount):
                    held = model.objects.filter(lease_expires_at__gt=timezone.now())
                    held.update(lease_expires_at=timezone.now(), due_at=timezone.now())
        return len(found)


def live(world: Mortal, cloud: str, cluster: Cluster) -> None:
    """Made, and taken back: with one machine for each key at any time, and nothing in the end."""
    world.phase(cluster, "joining", timeout_seconds=60)
    running = [item for item in aws.machines(cloud) if item["State"]["Name"] == "running"]
    assert len(running) == 1
    want(cluster, WINDLASS, goal="delete")
    world.phase(cluster, "deleted", timeout_seconds=60)
    assert (aws.remains(cloud), closed(cluster)) == ([], True)
    asked_for = {line.token for line in lines(cluster) if line.kind == "machine" and line.cloud_id}
    assert len(aws.machines(cloud)) == len(asked_for)
    assert [stray for row in CloudSight.objects.all() for stray in row.strays] == []


@pytest.mark.timeout(1500)
def test_every_point_of_a_life(
    world: World,
    cloud: str,
    account: CloudAccount,
    new_cluster: Callable[..., Cluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mortal, reaper = Mortal(world.workspace, world.queues), Reaper(monkeypatch)
    mortal.phase(account, "ready")
    live(mortal, cloud, new_cluster(name="first"))
    walked: list[tuple[str, int]] = [(name, 0) for name in sorted(reaper.passed) if name.startswith(OURS)]
    walked += [(name, number) for name in BY_EACH for number in range(1, RESOURCES)]
    if one := os.environ.get("KILLS"):
        walked = [(one.split(":")[0], int(one.split(":")[1]))]
    failed = []
    for number, (name, passes) in enumerate(walked):
        aws.reset()
        CloudResource.objects.all().delete()
        reaper.arm(name, passes)
        wake("cloud_account", [account.pk])
        try:
            live(mortal, cloud, new_cluster(name=f"life-{number}"))
            assert not reaper.name, "its point was not reached"
        except AssertionError as error:
            failed.append(f"{name}:{passes}: {error}")
            print(failed[-1], flush=True)
    print(f"{len(walked)} deaths were survived but {len(failed)}")
    assert failed == []
