"""A store that is not on this disk: parts pass through the web server, sealed, by signed addresses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.core.files.storage import InMemoryStorage, Storage

from apps.accounts.models import Workspace
from apps.placements.models import PlacementBlob
from apps.registry import blobs, transfers
from apps.registry.models import Blob
from apps.registry.parts import OVERHEAD_BYTES, PART_BYTES
from tests.spine.conftest import World
from tests.spine.test_run import TRAIN, make_run

RESUME = "import os\nprint(open(os.path.join(os.environ['WINDLASS_IN'], 'script.py')).read())\n" + TRAIN


class Elsewhere(Storage):
    """In memory, and without paths, as an object store."""

    def __init__(self) -> None:
        self.inner = InMemoryStorage()
        self.exists, self.delete, self.listdir = self.inner.exists, self.inner.delete, self.inner.listdir

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name  # a later write replaces an earlier one

    def _open(self, name: str, mode: str = "rb") -> Any:
        return self.inner.open(name, mode)

    def _save(self, name: str, content: Any) -> str:
        return self.inner.save(name, content)


@pytest.fixture
def elsewhere(world: World, live_server: Any, settings: Any) -> str:
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": f"{__name__}.Elsewhere"}}
    settings.WINDLASS_PARTS_URL = live_server.url
    return live_server.url


def test_a_job_reads_and_writes_through_the_web_server(
    world: World, workspace: Workspace, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.reconcilers.training.torchrun", lambda run, processes: ("python", "-c", RESUME))
    run = make_run(workspace)
    run.script = blobs.store_bytes(workspace, b"a script")
    run.save(update_fields=["script"])
    world.phase(run, "succeeded", "failed")
    assert run.phase == "succeeded", run.message
    assert b"".join(blobs.read(run.result.file("metrics.json"))) == b'{"held_out_accuracy": 0.98}'
    assert PlacementBlob.objects.filter(way="out", blob__state="uploading").count() == 0


def test_an_address_is_for_one_blob_and_one_direction(workspace: Workspace, elsewhere: str) -> None:
    ready, open_ = blobs.store_bytes(workspace, b"content"), blobs.new_output(workspace)
    read, write = transfers.address(ready, "read"), transfers.address(open_, "write")
    assert httpx.get(f"{read}/0").content != b"content", "sealed"
    assert httpx.get(f"{read}/1").status_code == 404
    assert httpx.put(f"{read}/0", content=b"x").status_code == 403
    assert httpx.get(f"{write}/0").status_code == 403
    assert httpx.get(f"{read[:-3]}abc/0").status_code == 403
    assert httpx.post(f"{read}/0").status_code == 403
    assert httpx.put(f"{write}/0", content=b"sealed").status_code == 204
    assert httpx.put(f"{write}/1", content=bytes(PART_BYTES + OVERHEAD_BYTES + 1)).status_code == 413
    assert httpx.put(f"{transfers.address(ready, 'write')}/0", content=b"x").status_code == 409
    Blob.objects.filter(pk=open_.pk).delete()
    assert httpx.put(f"{write}/0", content=b"late").status_code == 404


def test_an_address_ends(workspace: Workspace, elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "AGE_SECONDS", -1)
    assert httpx.get(f"{transfers.address(blobs.store_bytes(workspace, b'c'), 'read')}/0").status_code == 403
