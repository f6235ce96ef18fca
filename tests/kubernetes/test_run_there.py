"""A training run on a Kubernetes whose pods really run: from its row to a model version."""

from __future__ import annotations

import pytest

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from apps.core.wants import want
from apps.placements.models import LogChunk, Place, Placement, Reservation
from apps.registry import blobs
from apps.training.models import MetricPoint, TrainingRun
from tests.clouds.kubernetes.simulator import Kubernetes
from tests.kubernetes.test_pod_job import STOPPABLE
from tests.spine.conftest import World
from tests.spine.test_run import TRAIN, make_run


def run_there(
    workspace: Workspace, place: Place, monkeypatch: pytest.MonkeyPatch, source: str, **more: int
) -> TrainingRun:
    monkeypatch.setattr("workers.reconcilers.training.torchrun", lambda *_: ("python", "-c", source))
    run = make_run(workspace)
    TrainingRun.objects.filter(pk=run.pk).update(place=place, memory_bytes_per_process=2**28, **more)
    run.refresh_from_db()
    return run


def nothing_left(kube: Kubernetes) -> None:
    assert Reservation.objects.count() == 0
    for plural in ("pods", "jobs", "services", "secrets", "deployments", "poddisruptionbudgets"):
        assert kube.objects(plural) == [], plural


def log() -> bytes:
    return b"".join(bytes(chunk.data) for chunk in LogChunk.objects.filter(stream="0").order_by("offset"))


def test_a_run_becomes_a_model_version(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_there(workspace, far, monkeypatch, TRAIN)
    world.phase(run, "succeeded", "failed", timeout_seconds=60)
    assert (run.phase, run.reason) == ("succeeded", "Trained"), run.message
    assert run.result is not None
    assert run.result.metrics == {"held_out_accuracy": 0.98}
    assert b"".join(blobs.read(run.result.file("config.json"))) == b"{}"
    assert sorted(MetricPoint.objects.values_list("step", flat=True)) == [1, 2, 3]
    assert b"hello from the program" in log()
    world.until(lambda: kube.objects("pods") == [])
    nothing_left(kube)


def test_a_failing_program_fails_the_run_with_its_words(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_there(workspace, far, monkeypatch, "raise ValueError('seven is not a digit')")
    world.phase(run, "succeeded", "failed", timeout_seconds=60)
    assert run.phase == "failed"
    assert "seven is not a digit" in run.message
    nothing_left(kube)


def test_cancel_keeps_the_checkpoint(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_there(workspace, far, monkeypatch, STOPPABLE)
    world.until(lambda: b"up" in log(), 60)
    want(run, WINDLASS, goal="stop")
    world.phase(run, "cancelled", timeout_seconds=60)
    assert run.checkpoint is not None
    assert b"step" in b"".join(blobs.read(run.checkpoint))
    nothing_left(kube)


def test_an_image_that_cannot_be_pulled_is_told(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube.faults.image_pull = 'Back-off pulling image "windlass:test": not found'
    run = run_there(workspace, far, monkeypatch, TRAIN)
    world.until(lambda: (run.refresh_from_db(), "can't be pulled" in run.message)[1], 60)
    kube.faults.image_pull = ""
    world.phase(run, "succeeded", "failed", timeout_seconds=60)
    assert run.phase == "succeeded", run.message


def test_too_much_memory_is_told(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulator keeps the limit as the kernel does: the whole container is killed, and nobody there can tell."""
    run = run_there(workspace, far, monkeypatch, "x = bytes(b'x') * 2**29\nimport time; time.sleep(30)")
    world.until(lambda: Placement.objects.filter(phase__in=("failed", "succeeded")).exists(), 60)
    placement = Placement.objects.order_by("attempt")[0]
    assert placement.ended["exit"]["reason"] == "oom"
    assert "memory" in placement.message
    want(run, WINDLASS, goal="delete")
    world.phase(run, "deleted", timeout_seconds=60)
    nothing_left(kube)


def test_no_room_there_is_told_and_an_evicted_run_is_tried_again(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube.faults.unschedulable = "0/1 nodes are available: 1 Insufficient cpu."
    run = run_there(workspace, far, monkeypatch, "print('up', flush=True); import time; time.sleep(60)")
    world.until(lambda: (run.refresh_from_db(), "Insufficient cpu" in run.message)[1], 60)
    kube.faults.unschedulable = ""
    world.until(lambda: b"up" in log(), 60)
    kube.evict("plc-")
    world.until(lambda: Placement.objects.count() == 2, 60)
    first = Placement.objects.order_by("attempt")[0]
    assert (first.phase, first.ended["exit"]["reason"]) == ("failed", "preempted")
    assert "low on resource: memory" in first.message
    want(run, WINDLASS, goal="delete")
    world.phase(run, "deleted", timeout_seconds=60)
    nothing_left(kube)


def test_an_api_that_is_away_ends_nothing(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = kube.kubelet.directory / "go"
    waits = f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\n"
    run = run_there(workspace, far, monkeypatch, waits + TRAIN)
    world.until(lambda: b"up" in log(), 60)
    kube.faults.down = True
    world.until(lambda: (far.refresh_from_db(), far.phase == "unreachable")[1], 30)
    gate.touch()  # it ends while nobody can see it
    run.refresh_from_db()
    assert run.phase == "training"
    kube.faults.down = False
    world.phase(run, "succeeded", "failed", timeout_seconds=60)
    assert (run.phase, run.attempt) == ("succeeded", 1), run.message
    nothing_left(kube)


def test_a_run_whose_node_is_lost_is_tried_again(
    world: World, workspace: Workspace, far: Place, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_there(workspace, far, monkeypatch, "print('up', flush=True); import time; time.sleep(60)")
    world.until(lambda: b"up" in log(), 60)
    kube.lose_node()
    world.until(lambda: kube.objects("pods")[0]["metadata"].get("deletionTimestamp"), 30)
    for _ in range(20):
        world.beat()
    assert Placement.objects.count() == 1, "it may come back: nothing is started twice before it is sure to be gone"
    kube.restore_node()
    world.until(lambda: Placement.objects.count() == 2, 60)
    first = Placement.objects.order_by("attempt")[0]
    assert (first.phase, first.reason) == ("failed", "NodeLost")
    want(run, WINDLASS, goal="delete")
    world.phase(run, "deleted", timeout_seconds=60)
    nothing_left(kube)
