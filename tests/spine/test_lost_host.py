"""A host that disappears, for a while or for ever: its work is neither lost nor done twice, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Cluster, Host
from apps.clusters.services import declare_dead
from apps.core.actor import WINDLASS
from apps.core.wants import create, want
from apps.placements.models import Place, Placement, PlacementBlob, Reservation
from apps.placements.services import close_place
from apps.training.models import TrainingRun
from tests.spine.conftest import World
from tests.spine.hosts import WAITS, WRITES, Hosts, by_rank
from workers import tasks

Program = Callable[[str], None]


@pytest.fixture
def hosts(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(world, tmp_path, 3)
    made.patch(monkeypatch)
    Host.objects.exclude(name="one").update(draining=True)  # the first attempt comes to the first host
    yield made
    made.close()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    def use(source: str) -> None:
        monkeypatch.setattr("workers.reconcilers.training.torchrun", lambda run, processes: ("python", "-c", source))

    return use


@pytest.fixture
def running(hosts: Hosts, program: Program) -> TrainingRun:
    """A run whose program runs on host "one"; whatever starts next, ends well."""
    program(WAITS)
    run = hosts.run()
    hosts.until(lambda: hosts.started(run))
    hosts.world.phase(run, "training")
    assert hosts.node(run).place.name == "one"
    program(WRITES)
    Host.objects.update(draining=False)
    return run


def given_up(hosts: Hosts, run: TrainingRun) -> Placement:
    """Attempt 1 after the second one has ended the run."""
    hosts.lose("one", seconds=301)
    hosts.world.phase(run, "succeeded", "failed")
    return hosts.node(run, attempt=1)


def test_only_a_host_without_a_heartbeat_for_a_minute_is_lost(hosts: Hosts) -> None:
    Host.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=50))
    assert tasks.mark_lost_hosts() == 0
    Host.objects.filter(name="two").update(heartbeat_at=timezone.now() - timedelta(seconds=61))
    assert tasks.mark_lost_hosts() == 1
    assert list(Host.objects.exclude(lost_at=None).values_list("name", flat=True)) == ["two"]
    assert tasks.mark_lost_hosts() == 0
    hosts.bring_back("two")
    assert not Host.objects.exclude(lost_at=None).exists()


def test_nobody_is_lost_because_the_database_was_away(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    Host.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=600))
    monkeypatch.setattr(tasks, "database_up_seconds", lambda: 20.0)
    assert tasks.mark_lost_hosts() == 0
    monkeypatch.undo()
    assert 0 < tasks.database_up_seconds() < 24 * 3600


def test_nothing_new_is_placed_on_a_lost_host(hosts: Hosts, program: Program) -> None:
    program(WRITES)
    hosts.lose("one")
    run = hosts.run()
    hosts.until(lambda: TrainingRun.objects.get().reason == "NoCapacity")
    run.refresh_from_db()
    assert "one is lost" in run.message
    assert Placement.objects.count() == 0


def test_a_host_that_is_back_in_time_goes_on_as_if_nothing_had_been(hosts: Hosts, running: TrainingRun) -> None:
    hosts.lose("one", seconds=200)
    hosts.until(lambda: TrainingRun.objects.get().reason == "HostLost")
    running.refresh_from_db()
    assert (running.phase, running.attempt) == ("training", 1)
    assert running.message.startswith("No answer from one. If none comes, it goes on elsewhere in ")
    hosts.bring_back("one")
    hosts.until(lambda: TrainingRun.objects.get().reason == "Working")
    running.refresh_from_db()
    assert "No answer" not in running.message
    want(running, WINDLASS, goal="stop")
    hosts.world.phase(running, "cancelled")
    assert running.checkpoint is not None
    assert Placement.objects.count() == 1
    assert hosts.log(hosts.node(running)).count(b"started") == 1


def test_a_lost_job_goes_on_elsewhere_while_the_old_attempt_keeps_what_it_holds(
    hosts: Hosts, running: TrainingRun
) -> None:
    old = given_up(hosts, running)
    assert (running.phase, running.attempt, running.reason) == ("succeeded", 2, "Trained"), running.message
    assert hosts.node(running).place.name != "one"
    assert (old.goal, old.is_final) == ("delete", False)
    assert running.checkpoint is None, "what the lost attempt wrote does not count"
    assert (hosts.held("one"), Reservation.objects.count()) == (1, 1)
    assert hosts.owned("one") == [old.outside_name]


def test_what_a_late_host_still_runs_is_stopped_and_frees_its_place(hosts: Hosts, running: TrainingRun) -> None:
    old = given_up(hosts, running)
    result = running.result
    hosts.bring_back("one")
    hosts.until(lambda: not Reservation.objects.exists())
    old.refresh_from_db()
    running.refresh_from_db()
    assert old.phase == "deleted"
    assert hosts.owned("one") == []
    assert (running.phase, running.result, running.attempt, running.checkpoint) == ("succeeded", result, 2, None)
    assert not PlacementBlob.objects.exists()


@pytest.mark.parametrize("goal", ["stop", "delete"])
def test_an_end_does_not_wait_for_the_lost_host(hosts: Hosts, running: TrainingRun, goal: str) -> None:
    hosts.lose("one")
    want(running, WINDLASS, goal=goal)
    hosts.world.phase(running, {"stop": "cancelled", "delete": "deleted"}[goal], timeout_seconds=10)
    old = Placement.objects.get()
    assert (old.goal, old.is_final, hosts.held("one")) == ("delete", False, 1)
    assert PlacementBlob.objects.filter(way="out").exists(), "it may still write there"
    hosts.bring_back("one")
    hosts.until(lambda: not Reservation.objects.exists())
    assert hosts.owned("one") == []
    assert not PlacementBlob.objects.exists()


def test_a_host_that_is_declared_dead_closes_at_once_and_a_return_revives_nothing(
    hosts: Hosts, running: TrainingRun
) -> None:
    old = hosts.node(running)
    hosts.lose("one")
    declare_dead(hosts.host("one"), WINDLASS)
    hosts.world.phase(running, "succeeded", "failed")
    assert (running.phase, running.attempt) == ("succeeded", 2), running.message
    old.refresh_from_db()
    assert (old.phase, old.reason, hosts.held("one")) == ("failed", "Lost", 0)
    assert hosts.owned("one") == [old.outside_name], "nobody could be asked to stop it"
    Placement.objects.filter(pk=old.pk).update(phase_since=timezone.now() - timedelta(minutes=3))
    hosts.bring_back("one")
    hosts.until(lambda: hosts.owned("one") == [])
    old.refresh_from_db()
    assert (old.phase, Reservation.objects.count(), hosts.host("one").declared_dead_at) == ("failed", 0, None)
    assert Place.objects.get(pk=old.place_id).gone_at is None


def test_what_was_never_applied_is_lost_too_and_not_refused(hosts: Hosts, program: Program) -> None:
    program(WRITES)
    hosts.cut("one")
    run = hosts.run()
    hosts.until(lambda: Placement.objects.filter(phase="pending").exists())
    hosts.world.queues.append(hosts.host("one").queue)
    hosts.lose("one")
    Host.objects.update(draining=False)
    declare_dead(hosts.host("one"), WINDLASS)
    hosts.world.phase(run, "succeeded", "failed")
    assert (run.phase, run.attempt) == ("succeeded", 2), run.message
    assert hosts.node(run, attempt=1).reason == "Lost"


def test_when_one_of_two_hosts_is_lost_what_the_other_has_is_kept(hosts: Hosts, program: Program) -> None:
    program(by_rank(WAITS, WAITS))
    Host.objects.filter(name="two").update(draining=False)
    run = hosts.run(nodes=2)
    hosts.until(lambda: hosts.started(run))
    program(by_rank(WRITES, ""))
    second = hosts.node(run, 1)
    Host.objects.update(draining=False)
    hosts.lose(second.place.name, seconds=301)
    hosts.world.phase(run, "succeeded", "failed")
    assert (run.phase, run.attempt) == ("succeeded", 2), run.message
    inputs = [[item.name for item in hosts.node(run, rank).wanted.inputs] for rank in (0, 1)]
    assert inputs == [["checkpoint"], ["checkpoint"]]
    assert second.place_id not in {hosts.node(run, rank).place_id for rank in (0, 1)}
    first = hosts.node(run, 0, attempt=1)
    second.refresh_from_db()
    assert (first.phase, second.goal, second.is_final) == ("cancelled", "delete", False)
    assert Reservation.objects.get().placement_id == second.pk


@pytest.mark.parametrize("applied", [False, True])
def test_what_stood_on_a_cluster_that_is_gone_is_lost(
    hosts: Hosts, program: Program, workspace: Workspace, applied: bool
) -> None:
    program(WAITS)
    cluster = create(Cluster(workspace=workspace, name="cloud", provider="kubeconfig", queue="none"), WINDLASS)
    capacity = {"cpus": 4, "memory_bytes": 2**33}
    place = create(Place(cluster=cluster, target="kubernetes", capacity=capacity, queue="cloud"), WINDLASS)
    hosts.targets[place.pk] = hosts.targets[hosts.places["three"].pk]
    Host.objects.update(draining=True)
    run = hosts.run()
    if applied:
        hosts.world.queues.append("cloud")
    hosts.until(lambda: hosts.started(run) if applied else Placement.objects.exists())
    Host.objects.filter(name="one").update(draining=False)
    program(WRITES)
    with transaction.atomic():
        close_place(place)
    hosts.world.phase(run, "succeeded", "failed")
    old = hosts.node(run, attempt=1)
    assert (run.phase, run.attempt, old.phase, old.reason) == ("succeeded", 2, "failed", "Lost"), run.message
    assert Reservation.objects.count() == 0
