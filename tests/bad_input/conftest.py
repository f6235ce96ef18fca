"""One world for the whole folder: what goes wrong in it must not hold up what comes after.

Everything is asked through the REST API with a key, and run by the real reconcilers, shims and cages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

from apps.accounts import services
from apps.accounts.models import Role, Workspace
from apps.core import ids
from apps.core.actor import WINDLASS
from apps.core.models import Managed
from apps.core.wants import wake
from apps.placements.models import Place, Placement, Reservation
from apps.registry.models import Blob, DatasetVersion
from apps.training.models import TrainingRun
from tests.api.conftest import Caller, make_workspace
from tests.spine import conftest as spine
from workers import host, targets
from workers.gateway.bootstrap import write_bootstrap
from workers.reconcilers import training
from workers.targets.process import cage, processes
from workers.targets.process.target import snapshot, stop_all

MIB = 1024**2
RAW = "application/octet-stream"
GOOD = """
import json, os
out = os.environ["WINDLASS_OUT"]
for name in ("model.safetensors", "config.json", "reference.onnx", "signature.json"):
    open(os.path.join(out, name), "w").write("{}")
open(os.path.join(out, "metrics.json"), "w").write(json.dumps({"held_out_accuracy": 0.98}))
"""


RECIPE = """
import os, runpy
os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
runpy.run_module("workers.training.data_parallel", run_name="__main__")
"""


def directly(run: TrainingRun) -> tuple[str, ...]:
    """One process, without torchrun: loading that takes longer than all else here."""
    return ("python", "in/script.py") if run.script_id else ("python", "-c", RECIPE)


class World(spine.World):
    """`directory`: of its host and storage. `torchrun`: whether scripts are started by it, or directly, for speed."""

    def __init__(self, workspace: Workspace, queues: list[str], directory: Path) -> None:
        super().__init__(workspace, queues)
        self.directory = directory
        self.torchrun = False
        self.api = self.caller(workspace)
        self._seen: dict[str, int] = {}

    @staticmethod
    def caller(workspace: Workspace) -> Caller:
        return Caller(workspace, services.create_api_key(workspace, WINDLASS, name="d", role=Role.DEVELOPER).secret)

    def beat(self) -> int:
        """As the host's watcher does it too: a changed status is looked at now, not at the next beat."""
        seen = snapshot(self.directory / "host")
        if seen != self._seen:
            wake("place", list(Place.objects.values_list("pk", flat=True)))
            self._seen = seen
        return super().beat()

    def upload(self, content: bytes) -> str:
        answer = self.api("PUT", "blobs", content, Content_Type=RAW)
        assert answer.status_code == 201, answer.json()
        return str(answer.json()["id"])

    def start(self, script: str, **fields: Any) -> TrainingRun:
        """A run of a script; of one process with little memory if nothing else is said."""
        body = {"model": "bad", "script": self.upload(script.encode()), "memory_bytes_per_process": 256 * MIB, **fields}
        answer = self.api.post("training-runs", body)
        assert answer.status_code == 201, answer.json()
        return TrainingRun.objects.get(pk=ids.parse(TrainingRun.prefix, answer.json()["id"]))

    def end(self, row: Managed, timeout_seconds: float = 60) -> dict[str, Any]:
        """What the API tells of a row when it has ended."""
        self.phase(row, *(phase for phase in row.phases.final if phase != "deleted"), timeout_seconds=timeout_seconds)
        return self.told(row)

    def told(self, row: Managed) -> dict[str, Any]:
        answer = self.api.get(f"{row.kind.replace('_', '-')}s/{row.typed_id}")
        assert answer.status_code == 200, answer.json()
        return dict(answer.json())

    def log(self, row: Managed) -> str:
        answer = self.api.get(f"{row.kind.replace('_', '-')}s/{row.typed_id}/logs")
        assert answer.status_code == 200, answer.json()
        return str(answer.json()["text"])

    def dataset_version(self, content: bytes, filename: str, **options: Any) -> DatasetVersion:
        """An upload that is to be checked, as a dataset of its own."""
        dataset = self.api.post("datasets", {"name": f"data-{DatasetVersion.objects.count() + 1}"}).json()["id"]
        body = {"blob": self.upload(content), "filename": filename, "options": options}
        answer = self.api.post(f"datasets/{dataset}/versions", body)
        assert answer.status_code == 201, answer.json()
        return DatasetVersion.objects.get(pk=ids.parse(DatasetVersion.prefix, answer.json()["id"]))

    def nothing_left(self) -> None:
        """No reservation, no directory, no process, and no part of a blob that is not whole."""
        assert Reservation.objects.count() == 0
        assert list(targets.this_host().list_owned(None)) == []
        workloads = self.directory / "host" / "workloads"
        assert [path.name for place in (workloads, workloads.parent / "trash") for path in place.iterdir()] == []
        for placement in Placement.objects.all():
            assert processes.marked(processes.mark_of(workloads / placement.outside_name)) == []
        whole = {str(pk) for pk in Blob.objects.filter(state=Blob.State.READY).values_list("pk", flat=True)}
        kept = {path.parent.name for path in (self.directory / "storage").rglob("*") if path.is_file()}
        assert kept <= whole

    def goes_on(self) -> None:
        """The next run works, whatever was before."""
        told = self.end(self.start(GOOD))
        assert (told["phase"], told["reason"]) == ("succeeded", "Trained"), told
        self.nothing_left()


@pytest.fixture(scope="package")
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """pytest-django's fixture of this name, emptied after the folder in place of after each test."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="package")
def world(transactional_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("bad")
    default = settings.STORAGES["default"]
    storage = {**default, "OPTIONS": {**default["OPTIONS"], "location": str(directory / "storage")}}
    changed = override_settings(
        STORAGES={**settings.STORAGES, "default": storage},
        WINDLASS_WORKLOADS_DIRECTORY=directory / "host",
        WINDLASS_GATEWAY_DIRECTORY=directory / "gateway",
        WINDLASS_GATEWAY_ADMIN_SOCKET=directory / "admin.sock",
        WINDLASS_HOST_CPUS=16.0,  # the programs here do little, and many wait at once
        WINDLASS_HOST_MEMORY_BYTES=64 * 1024**3,
        WINDLASS_ALLOW_UNCAGED_SCRIPTS=not cage.caged(),
        WINDLASS_HINTS=False,
    )
    with ExitStack() as stack:
        stack.enter_context(changed)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        write_bootstrap(directory / "gateway", "127.0.0.1", 1, admin_socket=directory / "admin.sock")
        targets.this_host.cache_clear()
        targets.this_host()  # its folders are there from here on
        stack.callback(targets.this_host.cache_clear)
        made = World(make_workspace("team"), ["reconcile", host.register_host().queue], directory)
        stack.callback(stop_all, directory / "host", 1.0)
        torchrun = training.torchrun
        patch.setattr(
            training, "torchrun", lambda run, processes: torchrun(run, processes) if made.torchrun else directly(run)
        )
        yield made
