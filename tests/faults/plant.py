"""The plant under test: PostgreSQL, Valkey and workers as real processes, and what must be true after each fault."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.core.actor import WINDLASS
from apps.core.models import Event, Managed
from apps.core.wants import create, models_by_kind, want
from apps.deployments.models import Deployment, Revision
from apps.exports.models import Export
from apps.placements.models import LogChunk, Place, Placement, Reservation
from apps.placements.services import wake_owners
from apps.registry import blobs
from apps.registry.models import Blob, BlobGrave, Model, ModelVersion
from apps.training.models import TrainingRun

TIME_SCALE = "0.05"
# Machines that other machines reach, as the nodes of a job must; their workers' queues are this plant's worker's too.
MORE_HOSTS = ("second", "third", "fourth")


class Worker:
    """The worker, started again whenever it dies, as `make up` does."""

    def __init__(self, var: Path, queues: str, name: str = "one") -> None:
        self.var, self.queues, self.name = var, queues, name
        self.wanted = True
        self.starts = 0
        self.process = self._start()
        threading.Thread(target=self._keep, daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        argv = [sys.executable, "-m", "tests.faults.worker", "worker", "-Q", self.queues, "-c", "3", "-l", "INFO"]
        argv += ["-n", f"{self.name}@faults", "--without-gossip", "--without-mingle"]
        environment = {
            **os.environ,
            "WINDLASS_TIME_SCALE": TIME_SCALE,
            "WINDLASS_CRASH_FILE": str(self.var / "crash"),
            "WINDLASS_CRASH_LOG": str(self.var / "passed"),
            "DJANGO_SETTINGS_MODULE": "controlplane.settings",
        }
        log = (self.var / f"worker-{self.name}.log").open("ab")
        return subprocess.Popen(argv, env=environment, stdout=log, stderr=log, start_new_session=True)

    def _keep(self) -> None:
        while self.wanted:
            self.process.wait()
            if self.wanted:
                self.process = self._start()

    def pause(self) -> None:
        """SIGKILL all of it, and keep it dead."""
        self.wanted = False
        self.process.poll()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()

    def resume(self) -> None:
        self.wanted = True
        self.process = self._start()
        threading.Thread(target=self._keep, daemon=True).start()

    stop = pause


class Plant:
    def __init__(self, var: Path) -> None:
        from workers import host

        self.var = var
        self.workspace, _made = Workspace.objects.get_or_create(slug="faults", defaults={"name": "Faults"})
        machine = host.register_host()
        Host.objects.filter(pk=machine.pk).update(cpus=64, memory_bytes=2**40)
        settings.WINDLASS_HOST_CPUS = 64
        more = [self._join(number, name) for number, name in enumerate(MORE_HOSTS, 2)]
        self.queues = ",".join(("reconcile", machine.queue, *more))
        self.worker = Worker(var, self.queues)

    def _join(self, number: int, name: str) -> str:
        """A host with a directory of its own (see worker.py); returns its queue."""
        what = {"cpus": 4, "memory_bytes": 2**33, "address": f"192.0.2.{number}"}
        host = Host.objects.create(name=name, **what)
        create(Place(host=host, queue=host.queue), WINDLASS)
        return host.queue

    def lose(self, placement: Placement) -> None:
        """Its host sent no heartbeat for longer than a job is waited for; what it runs goes on."""
        host = placement.place.host
        assert host
        Host.objects.filter(pk=host.pk).update(lost_at=timezone.now() - timedelta(hours=1))
        wake_owners([host.pk])

    def arm(self, point: str, passes: int = 0, worker_too: bool = False) -> None:
        draft = self.var / "crash.draft"
        draft.write_text(f"{point}\n{passes}\n{self.worker.process.pid if worker_too else ''}")
        (self.var / "crash.fired").unlink(missing_ok=True)
        draft.rename(self.var / "crash")

    def fired(self) -> bool:
        return (self.var / "crash.fired").exists()

    def disarm(self) -> None:
        for name in ("crash", "crash.fired"):
            (self.var / name).unlink(missing_ok=True)

    def passed(self) -> list[str]:
        """The points passed since the last call, each once, in order."""
        path = self.var / "passed"
        names = path.read_text().split("\n") if path.exists() else []
        path.unlink(missing_ok=True)
        return list(dict.fromkeys(name for name in names if name))

    def until(self, true: Callable[[], object], timeout_seconds: float = 60) -> None:
        ends = time.monotonic() + timeout_seconds
        while True:
            try:
                if true():
                    return
            except OperationalError:
                connection.close()
            assert time.monotonic() < ends, self.state()
            time.sleep(0.05)

    def phase(self, row: Managed, *phases: str, timeout_seconds: float = 60) -> None:
        def there() -> bool:
            row.refresh_from_db()
            return row.phase in phases

        self.until(there, timeout_seconds)

    def state(self) -> str:
        """What is not at its end, for the message of a failing test."""
        lines = []
        for kind, model in models_by_kind().items():
            for row in model._default_manager.exclude(phase__in=model.phases.final):
                if kind not in {"place", "gateway"} or row.strikes:
                    lines.append(f"{kind} {row}: {row.phase} {row.reason} {row.message} strikes {row.strikes}")
        log = (self.var / "worker-one.log").read_text()[-2000:]
        return "it did not become right in time; left: " + "; ".join(lines + self.leftovers()) + "\n" + log

    def mop_up(self) -> None:
        """After a failure: what it left must not fail the next life too."""
        from workers.host import come_back
        from workers.targets.process.target import stop_all

        self.disarm()
        for host in Host.objects.exclude(lost_at=None):
            come_back(host.pk)
        for folder in self.folders:
            stop_all(folder, 1.0)
        for model in models_by_kind().values():
            if model.kind not in {"place", "gateway"}:
                for row in model._default_manager.exclude(phase="deleted").filter(goal__in=["run", "stop"]):
                    if not row.is_final:
                        want(row, WINDLASS, goal="delete")
        self.until(lambda: not self.leftovers(), 60)

    # --- lives -----------------------------------------------------------------------------------------------------
    def run(self, nodes: int = 1, **hyperparameters: object) -> TrainingRun:
        model, _made = Model.objects.get_or_create(workspace=self.workspace, name="digits")
        number = TrainingRun.objects.count() + 1
        row = TrainingRun(
            workspace=self.workspace,
            name="r",
            number=number,
            model=model,
            nodes=nodes,
            processes=nodes,
            hyperparameters=dict(hyperparameters),
        )
        return create(row, WINDLASS)

    def version(self) -> ModelVersion:
        model, _made = Model.objects.get_or_create(workspace=self.workspace, name="ready")
        found = model.versions.first()
        return found or create(
            ModelVersion(workspace=self.workspace, model=model, number=1, phase="ready", due_at=None), WINDLASS
        )

    def export(self) -> Export:
        version = self.version()
        number = version.exports.count() + 1
        return create(Export(workspace=self.workspace, model_version=version, number=number), WINDLASS)

    def deployment(self) -> Deployment:
        export = Export(
            workspace=self.workspace,
            model_version=self.version(),
            number=self.version().exports.count() + 1,
            phase="succeeded",
            due_at=None,
            file=blobs.store_bytes(self.workspace, b"model"),
            signature_file=blobs.store_bytes(self.workspace, b"{}"),
        )
        create(export, WINDLASS)
        row = Deployment(workspace=self.workspace, name=f"d{Deployment.objects.count()}", memory_bytes=128 * 2**20)
        create(row, WINDLASS)
        for number in (1, 2):
            Revision.objects.create(deployment=row, number=number, export=export)
        return row

    @property
    def folders(self) -> list[Path]:
        """Of all hosts."""
        return [settings.WINDLASS_WORKLOADS_DIRECTORY, *(settings.WINDLASS_VAR / name for name in MORE_HOSTS)]

    # --- what must be true afterwards -------------------------------------------------------------------------------
    def check_nothing_left(self) -> None:
        self.until(lambda: not self.leftovers(), 30)

    def leftovers(self) -> list[str]:
        found = [f"reservation of {item.placement}" for item in Reservation.objects.select_related("placement")]
        found += [f"directory {path}" for folder in self.folders for path in folder.glob("workloads/plc-*")]
        found += [f"process {pid} of {name}" for pid, name in marked_processes()]
        return found

    def check_events(self, row: Managed) -> None:
        """No event is missing: each begins where the one before ended, and the last is where the row is."""
        events = list(Event.objects.filter(kind=row.kind, row_id=row.pk).order_by("pk"))
        where = ""
        for event in events:
            assert event.old == where, [(item.old, item.new, item.reason) for item in events]
            where = event.new
        row.refresh_from_db()
        assert where == row.phase

    def check_one_program_an_attempt(self, row: Managed) -> None:
        for placement in Placement.objects.filter(owner_id=row.pk):
            log = b"".join(bytes(chunk.data) for chunk in LogChunk.objects.filter(placement=placement, stream="0"))
            assert log.count(b"started") <= 1, f"{placement} attempt {placement.attempt}: {log!r}"

    def check_blobs(self) -> None:
        """Every folder of parts in storage has its row or its grave."""
        root = settings.WINDLASS_VAR / "storage" / "blobs"
        known = {str(pk) for pk in Blob.objects.values_list("pk", flat=True)}
        known |= {str(pk) for pk in BlobGrave.objects.values_list("pk", flat=True)}
        assert {path.name for path in root.glob("*")} <= known


def marked_processes() -> list[tuple[int, str]]:
    """Live processes that carry the marker of one of this plant's workloads in their environment."""
    ours = {row.outside_name for row in Placement.objects.only("id")}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        names = [item.partition(b"=")[2].decode() for item in environment if item.startswith(b"WINDLASS_WORKLOAD=")]
        if names and names[0] in ours:
            found.append((int(entry.name), names[0]))
    return found


def finish(plant: Plant, row: Managed, *phases: str) -> None:
    plant.phase(row, *phases)
    plant.check_nothing_left()
    plant.check_events(row)
    plant.check_one_program_an_attempt(row)


def goal(row: Managed, value: str) -> None:
    want(row, WINDLASS, goal=value)
