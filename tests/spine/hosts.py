"""Several hosts in the test's own thread: each with a directory of its own, a queue, and a cable that can be pulled."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.utils import timezone

from apps.clusters.models import Host
from apps.core.actor import WINDLASS
from apps.core.wants import create, wake
from apps.placements.models import LogChunk, Place, Placement, Reservation
from apps.registry.models import Model
from apps.training.models import TrainingRun
from tests.spine.conftest import World
from workers import host as worker
from workers import targets, tasks
from workers.targets.process.target import ProcessTarget, stop_all

# As a host of a real installation has one; here it is never called.
ADDRESS = "192.0.2.{}"
# Whoever writes a checkpoint and waits to be killed or stopped.
WAITS = """
import os, signal, sys, time
out = os.environ["WINDLASS_OUT"]
print("started", flush=True)
os.makedirs(out + "/checkpoint", exist_ok=True)
open(out + "/checkpoint/step", "w").write("2")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
time.sleep(120)
"""
WRITES = """
import os
out = os.environ["WINDLASS_OUT"]
print("started", flush=True)
for name in ("model.safetensors", "config.json", "reference.onnx", "signature.json", "metrics.json"):
    open(os.path.join(out, name), "w").write("{}")
"""


class Hosts:
    """Hosts "one", "two" ...; a program is chosen for each node by its rank."""

    def __init__(self, world: World, folder: Path, count: int) -> None:
        self.world, self.folder = world, folder
        Place.objects.update(goal="stop", queue="none")
        self.targets: dict[UUID, ProcessTarget] = {}
        self.places: dict[str, Place] = {}
        for number, name in enumerate(("one", "two", "three")[:count], 1):
            machine = Host.objects.create(
                name=name, cpus=2, memory_bytes=2**33, address=ADDRESS.format(number), heartbeat_at=timezone.now()
            )
            place = create(Place(host=machine, queue=machine.queue), WINDLASS)
            self.places[name], self.targets[place.pk] = place, ProcessTarget(folder / name)
            world.queues.append(machine.queue)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(targets, "target_for", self.target_for)
        monkeypatch.setattr(tasks, "database_up_seconds", lambda: 3600.0)

    def target_for(self, place: Place) -> ProcessTarget:
        return self.targets[place.pk]

    def host(self, name: str) -> Host:
        machine = Host.objects.get(place=self.places[name])
        return machine

    # --- what befalls them -------------------------------------------------------------------------------------------
    def cut(self, name: str) -> None:
        """Its worker is killed, or its network is away: what runs there goes on."""
        self.world.queues.remove(self.host(name).queue)

    def lose(self, name: str, seconds: float = 0) -> None:
        """Cut, and so long ago that it was marked as lost; `seconds` have passed since."""
        self.cut(name)
        Host.objects.update(heartbeat_at=timezone.now())
        Host.objects.filter(name=name).update(heartbeat_at=timezone.now() - timedelta(seconds=61))
        assert tasks.mark_lost_hosts() == 1
        self.pass_time(name, seconds)

    def pass_time(self, name: str, seconds: float) -> None:
        lost_at = self.host(name).lost_at
        assert lost_at
        Host.objects.filter(name=name).update(lost_at=lost_at - timedelta(seconds=seconds))
        wake("training_run", TrainingRun.objects.values_list("pk", flat=True))

    def bring_back(self, name: str) -> None:
        """Its worker's heart beats again."""
        machine = self.host(name)
        worker.come_back(machine.pk)
        self.world.queues.append(machine.queue)

    def close(self) -> None:
        for name in self.places:
            stop_all(self.folder / name, 1.0)

    # --- runs --------------------------------------------------------------------------------------------------------
    def run(self, nodes: int = 1, **fields: object) -> TrainingRun:
        workspace = self.world.workspace
        model, _made = Model.objects.get_or_create(workspace=workspace, name="digits")
        number = TrainingRun.objects.count() + 1
        row = TrainingRun(
            workspace=workspace, name="digits", number=number, model=model, processes=nodes, nodes=nodes, **fields
        )
        return create(row, WINDLASS)

    def until(self, true: Callable[[], object], timeout_seconds: float = 30) -> None:
        try:
            self.world.until(true, timeout_seconds)
        except AssertionError as error:
            runs = list(TrainingRun.objects.values_list("phase", "reason", "message", "attempt"))
            placements = list(Placement.objects.values_list("slot", "attempt", "phase", "goal", "reason", "message"))
            raise AssertionError(f"{error}: {runs} {placements}") from error

    def node(self, run: TrainingRun, rank: int = 0, attempt: int | None = None) -> Placement:
        run.refresh_from_db()
        found = Placement.objects.select_related("place__host")
        return found.get(owner_id=run.pk, slot=f"node-{rank}", attempt=attempt or run.attempt)

    def started(self, run: TrainingRun) -> bool:
        """Whether the programs of all nodes of its present attempt have said so."""
        run.refresh_from_db()
        nodes = Placement.objects.filter(owner_id=run.pk, attempt=run.attempt)
        return bool(nodes) and all(b"started" in self.log(node) for node in nodes)

    @staticmethod
    def log(node: Placement) -> bytes:
        return b"".join(bytes(chunk.data) for chunk in LogChunk.objects.filter(placement=node, stream="0"))

    def owned(self, name: str) -> list[str]:
        """The workloads whose directories are there."""
        return [item.name for item in self.targets[self.places[name].pk].list_owned(None)]

    def held(self, name: str) -> int:
        """How many placements hold something of it."""
        return Reservation.objects.filter(place=self.places[name]).count()

    def kill_program(self, node: Placement) -> None:
        """SIGKILL to the program, not to the shim that watches over it."""
        mark = f"WINDLASS_WORKLOAD={node.outside_name}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), 9)
            except OSError:
                continue


def by_rank(*programs: str) -> str:
    """A program that is another one on each node."""
    return f"import os\nexec({list(programs)!r}[int(os.environ['WINDLASS_NODE_RANK'])])"
