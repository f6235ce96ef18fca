"""A run on two hosts: both nodes or none, one end for both, and outputs of the first alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from apps.clusters.models import Host
from apps.core.actor import WINDLASS
from apps.core.wants import want
from apps.placements.models import Placement, PlacementBlob, Reservation
from apps.placements.observation import Exit, Observed
from apps.placements.workload import Workload
from apps.training.models import TrainingRun
from tests.spine.conftest import World
from tests.spine.hosts import WAITS, WRITES, Hosts, by_rank
from workers.reconcilers.jobs import culprit

Program = Callable[..., None]


@pytest.fixture
def hosts(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(world, tmp_path, 2)
    made.patch(monkeypatch)
    yield made
    made.close()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    def use(*sources: str) -> None:
        source = by_rank(*sources)
        monkeypatch.setattr("workers.reconcilers.training.torchrun", lambda run, processes: ("python", "-c", source))

    return use


def workloads(run: TrainingRun) -> list[Workload]:
    return [row.wanted for row in Placement.objects.filter(owner_id=run.pk, attempt=run.attempt).order_by("slot")]


def test_two_nodes_stand_on_two_hosts_and_the_first_leaves_the_model(hosts: Hosts, program: Program) -> None:
    program(WRITES, "print('started')")
    run = hosts.run(nodes=2)
    hosts.world.phase(run, "succeeded", "failed")
    assert (run.phase, run.reason) == ("succeeded", "Trained"), run.message
    first, second = workloads(run)
    assert {hosts.node(run, rank).place.name for rank in (0, 1)} == {"one", "two"}
    assert (first.env["WINDLASS_NODE_RANK"], second.env["WINDLASS_NODE_RANK"]) == ("0", "1")
    assert first.env["WINDLASS_RENDEZVOUS"] == second.env["WINDLASS_RENDEZVOUS"]
    assert first.env["WINDLASS_RENDEZVOUS"].startswith(hosts.node(run).place.host.address)
    assert [workload.network for workload in (first, second)] == ["peers", "peers"]
    assert (len(first.outputs), second.outputs) == (6, ())
    assert hosts.node(run, 1).phase == "succeeded"
    assert Reservation.objects.count() == PlacementBlob.objects.count() == 0
    assert hosts.owned("one") == hosts.owned("two") == []


def test_without_room_for_both_neither_is_placed(hosts: Hosts, program: Program) -> None:
    program(WRITES, "")
    Host.objects.filter(name="two").update(draining=True)
    run = hosts.run(nodes=2)
    hosts.until(lambda: TrainingRun.objects.get().reason == "NoCapacity")
    run.refresh_from_db()
    assert "1 host has room, and the 2 nodes stand on as many hosts or on one cluster" in run.message
    assert "two is draining" in run.message
    assert Placement.objects.count() == Reservation.objects.count() == 0
    Host.objects.update(draining=False)
    TrainingRun.objects.update(due_at=run.phase_since)
    hosts.world.phase(run, "succeeded", "failed")
    assert run.phase == "succeeded", run.message


def test_the_node_that_failed_tells_why_and_the_other_is_stopped(hosts: Hosts, program: Program) -> None:
    program(WAITS, "raise ValueError('seven is not a digit')")
    run = hosts.run(nodes=2)
    hosts.world.phase(run, "succeeded", "failed")
    assert (run.phase, run.attempt) == ("failed", 1)
    assert "seven is not a digit" in run.message
    assert hosts.node(run, 0).phase == "cancelled"
    assert run.checkpoint is not None, "what the first node had is kept"
    assert Reservation.objects.count() == 0


def test_a_node_that_is_refused_fails_the_run_at_once(hosts: Hosts, program: Program) -> None:
    program(WAITS, WAITS)
    run = hosts.run(nodes=2, secrets=["token"])
    hosts.world.phase(run, "succeeded", "failed")
    assert (run.phase, run.reason, run.attempt) == ("failed", "SecretMissing", 1)
    assert Reservation.objects.count() == 0


def test_a_killed_node_takes_the_other_along_into_the_next_attempt(hosts: Hosts, program: Program) -> None:
    program(WAITS, WAITS)
    run = hosts.run(nodes=2)
    hosts.until(lambda: hosts.started(run))
    program(WRITES, "")
    hosts.kill_program(hosts.node(run, 1))
    hosts.world.phase(run, "succeeded", "failed")
    assert (run.phase, run.attempt) == ("succeeded", 2), run.message
    assert run.fruitless_attempts == 0, "it had a checkpoint"
    assert [item.name for item in workloads(run)[1].inputs] == ["checkpoint"], "all nodes go on from it"
    assert Reservation.objects.count() == 0


def test_a_cancel_keeps_the_checkpoint_of_the_first_node(hosts: Hosts, program: Program) -> None:
    program(WAITS, WAITS)
    run = hosts.run(nodes=2)
    hosts.until(lambda: hosts.started(run))
    want(run, WINDLASS, goal="stop")
    hosts.world.phase(run, "cancelled")
    assert run.checkpoint is not None
    assert run.message == "Cancelled. Its checkpoint is kept."
    assert [hosts.node(run, rank).phase for rank in (0, 1)] == ["cancelled", "cancelled"]
    assert Reservation.objects.count() == 0


def test_a_node_that_lingers_after_the_first_ended_well_is_stopped(
    hosts: Hosts, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.reconcilers.jobs.LAST_NODE_SECONDS", 1.0)
    program(WRITES, WAITS)
    run = hosts.run(nodes=2)
    hosts.world.phase(run, "succeeded", "failed")
    assert (run.phase, run.reason) == ("succeeded", "Trained"), run.message
    assert hosts.node(run, 1).phase == "cancelled"
    assert Reservation.objects.count() == 0


def test_two_runs_that_meet_at_one_host_meet_on_two_ports(
    hosts: Hosts, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.placements.services.RENDEZVOUS_PORTS", range(29400, 29402))
    program(WAITS, WAITS)
    runs = [hosts.run(nodes=2), hosts.run(nodes=2)]
    hosts.until(lambda: Placement.objects.count() == 4)
    for run in runs:
        run.refresh_from_db()
    assert len({workloads(run)[0].env["WINDLASS_RENDEZVOUS"] for run in runs}) == 2
    for run in runs:
        want(run, WINDLASS, goal="delete")
    for run in runs:
        hosts.world.phase(run, "deleted")


def ended(slot: str, reason: str, at: int, **fields: object) -> Placement:
    exit = Exit(1, None, reason, "It ended.")  # type: ignore[arg-type]
    seen = Observed("exited", exit=exit, times={"exited": f"2026-01-01T00:00:0{at}Z"})
    given = {"phase": "failed", "applied_generation": 1, "ended": seen.to_json(), **fields}
    return Placement(slot=slot, **given)


def test_of_several_nodes_the_one_that_began_it_tells_why() -> None:
    hung_up, failed = ended("hung up", "killed", 1), ended("failed", "error", 2)
    later, stopped = ended("later", "error", 3), ended("stopped", "killed", 0, stop_asked_at=timezone.now())
    refused = Placement(slot="refused", phase="failed", applied_generation=0, reason="SecretMissing")
    assert culprit([stopped, hung_up, later, failed, refused]) is refused
    assert culprit([stopped, hung_up, later, failed]) is failed
    assert culprit([stopped, hung_up]) is hung_up
    gone = Placement(slot="gone", phase="failed", applied_generation=0, reason="Lost")
    assert culprit([gone, failed]) is failed
