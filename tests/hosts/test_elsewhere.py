"""On a host that joined, blobs are addresses: their store is never touched from there."""

from __future__ import annotations

from typing import Any

import pytest

from apps.accounts.models import Workspace
from apps.registry import blobs, transfers
from apps.registry.models import Blob, BlobGrave
from controlplane.configuration import ELSEWHERE
from controlplane.storage import storage_settings


@pytest.fixture
def workspace(transactional_db: None) -> Workspace:
    return Workspace.objects.create(slug="team", name="Team")


@pytest.fixture
def joined(workspace: Workspace, settings: Any, tmp_path: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "default": storage_settings(ELSEWHERE, tmp_path)}
    settings.WINDLASS_PARTS_URL = "http://127.0.0.1:8000"


def test_an_output_that_is_there_already_leaves_its_grave_to_the_main_machine(
    workspace: Workspace, settings: Any, request: pytest.FixtureRequest
) -> None:
    here = settings.STORAGES
    twin = blobs.store_bytes(workspace, b"the same")
    mine = blobs.new_output(workspace)
    blobs.write_part(f"blobs/{mine.pk}/0", b"sealed")
    request.getfixturevalue("joined")
    sealed = blobs.seal_output(mine, twin.sha256 or "", twin.size_bytes or 0)
    assert sealed.pk == twin.pk
    blobs.abandon(mine)
    assert not Blob.objects.filter(pk=mine.pk).exists()
    assert BlobGrave.objects.filter(pk=mine.pk).exists()
    settings.STORAGES = here
    assert blobs.storage().exists(f"blobs/{mine.pk}/0")
    assert blobs.empty_graves() == 1
    assert not blobs.storage().exists(f"blobs/{mine.pk}/0")


@pytest.mark.usefixtures("joined")
def test_parts_are_read_and_written_through_the_passage(workspace: Workspace) -> None:
    blob = blobs.new_output(workspace)
    assert transfers.to_read(blob, 1).parts[0].startswith("http://127.0.0.1:8000/parts/")
    assert transfers.address(blob, transfers.WRITE).startswith("http://127.0.0.1:8000/parts/")
    with pytest.raises(NotImplementedError):
        blobs.storage().path("blobs")
