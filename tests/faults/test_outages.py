"""What holds the product up goes away in the middle of a life; each row reaches its end by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from apps.core import hints
from apps.core.models import Managed
from apps.placements.models import Placement
from tests.faults.conftest import Service
from tests.faults.plant import Plant, Worker, finish, goal, marked_processes

pytestmark = [pytest.mark.usefixtures("right_afterwards"), pytest.mark.timeout(400)]
Services = dict[str, Service]


def started(plant: Plant, count: int = 3, seconds: float = 3.0) -> list[Managed]:
    return [plant.run(sleep=seconds) for _ in range(count)]


def end_well(plant: Plant, rows: list[Managed]) -> None:
    for row in rows:
        plant.phase(row, "succeeded", timeout_seconds=120)
    for row in rows:
        finish(plant, row, "succeeded")


def test_the_same_task_delivered_five_times_at_once(plant: Plant, services: Services) -> None:
    run = plant.run(sleep=1)
    done = False

    def deliver() -> None:
        while not done:
            rows = [("training_run", str(run.pk), "reconcile")]
            rows += [("placement", str(row.pk), row.queue) for row in Placement.objects.filter(owner_id=run.pk)]
            for message in rows:
                for _ in range(5):
                    hints.publish(*message)
            time.sleep(0.1)

    flood = threading.Thread(target=deliver)
    flood.start()
    try:
        plant.phase(run, "succeeded")
    finally:
        done = True
        flood.join()
    finish(plant, run, "succeeded")
    run.refresh_from_db()
    assert run.attempt == 1


def test_a_worker_that_stalls_past_its_lease_and_comes_back(plant: Plant, services: Services) -> None:
    """Frozen with a lease in its hand; another takes over; what it writes when it wakes is dropped."""
    frozen, other = plant.worker, Worker(plant.var, plant.queues, "two")
    try:
        for delay in (0.1, 0.3, 0.6, 0.9):
            rows = started(plant, 2, 0.5)
            time.sleep(delay)
            os.killpg(frozen.process.pid, signal.SIGSTOP)
            time.sleep(5)  # the lease is 3 s here
            end_well(plant, rows)
            os.killpg(frozen.process.pid, signal.SIGCONT)
            time.sleep(1)
            end_well(plant, rows)
    finally:
        os.killpg(frozen.process.pid, signal.SIGCONT)
        other.stop()


def test_valkey_killed_and_emptied_for_two_minutes(plant: Plant, services: Services) -> None:
    rows = started(plant)
    time.sleep(0.5)
    services["valkey"].kill()
    begun = time.monotonic()
    end_well(plant, rows)
    later = started(plant, 2, 0.5)
    end_well(plant, later)
    assert time.monotonic() - begun < 110, "the sweep runs rows by itself while the broker is away"
    time.sleep(max(0.0, 120 - (time.monotonic() - begun)))
    services["valkey"].start()  # it keeps nothing
    end_well(plant, started(plant, 2, 0.5))


def test_postgres_killed_in_the_middle(plant: Plant, services: Services) -> None:
    for pause in (0.3, 1.0):
        rows = started(plant)
        time.sleep(pause)
        services["postgres"].kill()
        time.sleep(3)
        services["postgres"].start()
        end_well(plant, rows)


def test_the_shim_killed(plant: Plant, services: Services) -> None:
    """Its program goes with it; the attempt is over and the next one runs."""
    run = plant.run(sleep=2)
    plant.phase(run, "training")
    kill_shims(plant)
    plant.phase(run, "succeeded")
    finish(plant, run, "succeeded")
    assert run.attempt == 2


def test_the_shim_of_a_service_killed(plant: Plant, services: Services) -> None:
    row = plant.deployment()
    plant.phase(row, "serving")
    before = {pid for pid, _name in marked_processes()}
    kill_shims(plant)
    plant.until(lambda: marked_processes() and not before & {pid for pid, _name in marked_processes()})
    plant.phase(row, "serving")
    goal(row, "delete")
    finish(plant, row, "deleted")


def kill_shims(plant: Plant) -> None:
    found = shims(plant)
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def shims(plant: Plant) -> list[int]:
    """This plant's shims alone: there may be other installations on the machine."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    words = (b"workers.targets.process.shim", os.fsencode(plant.var))
    return [pid for pid in pids if all(word in command(pid) for word in words)]


def command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


@pytest.mark.parametrize("wanted", ["stop", "delete"])
@pytest.mark.parametrize("make", ["run", "export", "deployment"])
def test_stop_and_delete_at_every_moment(plant: Plant, services: Services, make: str, wanted: str) -> None:
    """Fired later and later into a life, so that every phase is met."""
    met: set[str] = set()
    for tenth in range(12):
        row: Managed = getattr(plant, make)() if make != "run" else plant.run(sleep=0.5)
        time.sleep(tenth * (0.5 if make == "deployment" else 0.15))
        row.refresh_from_db()
        met.add(row.phase)
        if wanted == "stop" and row.is_final:
            goal(row, "delete")
            finish(plant, row, "deleted")
            continue
        try_goal(row, wanted)
        if make == "deployment" and wanted == "stop":
            plant.phase(row, "stopped")
            goal(row, "delete")
            finish(plant, row, "deleted")
        else:
            ends = {"stop": ("cancelled", "succeeded"), "delete": ("deleted",)}[wanted]
            finish(plant, row, *ends)
    assert len(met) >= 2, met


def try_goal(row: Managed, wanted: str) -> None:
    """A job may have ended between our look and our want; that is no error."""
    from apps.core.wants import NotStoppable

    try:
        goal(row, wanted)
    except NotStoppable:
        row.refresh_from_db()
        assert row.is_final


def test_the_whole_host_killed_and_started_again(plant: Plant, services: Services) -> None:
    """Worker, shims, programs, PostgreSQL and Valkey at once, as a power cut would."""
    runs, service = started(plant, 2, 3.0), plant.deployment()
    plant.phase(service, "serving")
    restart: Callable[[], None] = plant.worker.resume
    plant.worker.pause()
    for pid in {pid for pid, _name in marked_processes()}:
        kill_quietly(pid)
    for pid in shims(plant):
        kill_quietly(pid)
    for name in ("postgres", "valkey"):
        services[name].kill()
    time.sleep(1)
    for name in ("postgres", "valkey"):
        services[name].start()
    restart()
    end_well_after_restart(plant, runs)
    plant.phase(service, "serving")
    plant.until(lambda: marked_processes())
    goal(service, "delete")
    finish(plant, service, "deleted")


def end_well_after_restart(plant: Plant, rows: list[Managed]) -> None:
    for row in rows:
        plant.phase(row, "succeeded", timeout_seconds=120)
        plant.check_events(row)
        plant.check_one_program_an_attempt(row)


def kill_quietly(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
