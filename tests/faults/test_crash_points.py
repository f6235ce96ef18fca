"""The worker is killed at every crash point that a life passes; afterwards everything is as if it had not been."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from apps.core.actor import WINDLASS
from apps.core.wants import want
from tests.faults.plant import Plant, finish, goal
from tests.figures import measured
from workers.host import come_back
from workers.reconcilers.jobs import placements_of

MOST_FAILURES = 8
MORE_LIVES = 3
Life = Callable[[Plant], None]


def trained(plant: Plant) -> None:
    finish(plant, plant.run(), "succeeded")


def failed(plant: Plant) -> None:
    finish(plant, plant.run(fail=True), "failed")


def cancelled(plant: Plant) -> None:
    run = plant.run(sleep=60)
    plant.phase(run, "training")
    goal(run, "stop")
    finish(plant, run, "cancelled")
    goal(run, "delete")
    finish(plant, run, "deleted")


def on_two_hosts(plant: Plant) -> None:
    finish(plant, plant.run(nodes=2), "succeeded")
    finish(plant, plant.run(nodes=2, fail_at="1", sleep=60), "failed")


def lost(plant: Plant) -> None:
    """One of two hosts is lost for good; it comes back when all is over."""
    run = plant.run(nodes=2, checkpoint=True, sleep=60)
    plant.phase(run, "training")
    plant.until(lambda: "running" in {node.phase for node in placements_of(run)})
    gone = placements_of(run)[1]
    plant.lose(gone)
    plant.phase(run, "succeeded")
    come_back(gone.place.host_id)
    finish(plant, run, "succeeded")


def exported(plant: Plant) -> None:
    finish(plant, plant.export(), "succeeded")


def served(plant: Plant) -> None:
    row = plant.deployment()
    plant.phase(row, "serving")
    want(row, WINDLASS, spec={"replicas": 2})
    plant.until(lambda: (row.refresh_from_db(), row.ready_replicas)[1] == 2)
    want(row, WINDLASS, spec={"replicas": 1, "revision": 2})
    plant.until(lambda: (row.refresh_from_db(), row.serving_revision)[1] == 2)
    plant.phase(row, "serving")
    goal(row, "stop")
    plant.phase(row, "stopped")
    goal(row, "run")
    plant.phase(row, "serving")
    goal(row, "delete")
    finish(plant, row, "deleted")


LIVES: tuple[Life, ...] = (trained, failed, cancelled, exported, served, on_two_hosts, lost)


def discover(plant: Plant) -> dict[str, list[Life]]:
    """Each point with the lives that pass it, the shortest first."""
    found: dict[str, list[Life]] = {}
    plant.passed()
    only = os.environ.get("ONLY_LIFE")
    for life in LIVES:
        if only and life.__name__ != only:
            continue
        life(plant)
        for name in plant.passed():
            found.setdefault(name, []).append(life)
    return found


@pytest.mark.timeout(2700)
def test_every_crash_point(plant: Plant) -> None:
    points = discover(plant)
    only = os.environ.get("ONLY_POINT")
    walked, unfired, took, failed_at = [], [], [], []
    for number, (name, lives) in enumerate(sorted(points.items())):
        if only and only not in name:
            continue
        plant.arm(name, worker_too=number % 3 == 2)
        begun = time.monotonic()
        try:
            for life in lives * MORE_LIVES:  # whether a point is passed may hang on timing
                life(plant)
                if plant.fired():
                    break
        except AssertionError as error:
            print(f"killed at {name}: {error}", flush=True)
            failed_at.append(name)
            plant.mop_up()
        if len(failed_at) == MOST_FAILURES:
            break
        took.append(time.monotonic() - begun)
        (walked if plant.fired() else unfired).append(name)
        if not plant.fired():
            print(f"not passed again: {name}", flush=True)
        plant.disarm()
    plant.check_blobs()
    took.sort()
    walked_all = len(walked) == len(points) or bool(only)
    measured("crash points walked", len(walked), "points", f"all {len(points)}", walked_all)
    if took:
        measured("killed to right, median", round(took[len(took) // 2], 1), "s", "reported", True)
        measured("killed to right, longest", round(took[-1], 1), "s", "reported", True)
    assert not failed_at, f"not right after a kill at: {failed_at}"
    assert not unfired or only, f"not walked: {unfired}"
