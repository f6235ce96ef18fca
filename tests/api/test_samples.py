"""Samples of a prepared dataset: the right items with their labels, without reading all of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.accounts.models import Workspace
from apps.registry import parts
from apps.registry.models import DatasetVersion
from apps.registry.samples import BlobFile
from tests.api.conftest import Caller
from tests.api.rows import blob, dataset_version
from workers.inspection import prepared
from workers.inspection.prepared import ItemWriter, SplitRule

pytestmark = pytest.mark.django_db


def packed(tree: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(tree, arcname=".")
    return content.getvalue()


@pytest.fixture
def images(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetVersion:
    """40 images of 2 classes, whose first pixel is their index; in parts so small that items lie across them."""
    writer = ItemWriter(tmp_path / "tree", (1, 4, 4), "u1")
    for index in range(40):
        writer.add(np.full((1, 4, 4), index, np.uint8), "even" if index % 2 == 0 else "odd")
    prepared.finish(writer, "image", SplitRule(0.25, 7), {"value_range": [0, 40]})
    monkeypatch.setattr(parts, "PART_BYTES", 1000)
    monkeypatch.setattr("apps.registry.samples.PART_BYTES", 1000)
    return _with(workspace, packed(tmp_path / "tree"))


def _with(workspace: Workspace, content: bytes) -> DatasetVersion:
    version = dataset_version(workspace)
    DatasetVersion.objects.filter(pk=version.pk).update(prepared=blob(workspace, content))
    return version


def get(caller: Caller, version: DatasetVersion, query: str = "") -> dict[str, Any]:
    answer = caller.get(f"dataset-versions/{version.typed_id}/samples?{query}")
    assert answer.status_code == 200, answer.content
    content: dict[str, Any] = answer.json()
    return content


def test_items_come_with_their_labels(viewer: Caller, images: DatasetVersion) -> None:
    found = get(viewer, images)
    assert (found["total"], len(found["items"]), found["split"]) == (10, 10, "held_out")
    for item in found["items"]:
        assert item["features"] == [[[item["index"]] * 4] * 4]
        assert item["class"] == ("even" if item["index"] % 2 == 0 else "odd") == ["even", "odd"][item["label"]]
    assert found["dataset"]["shape"] == [1, 4, 4] and found["dataset"]["value_range"] == [0, 40]


def test_pages_of_a_split_are_all_of_it(viewer: Caller, images: DatasetVersion) -> None:
    whole = [item["index"] for item in get(viewer, images, "split=train&limit=50")["items"]]
    pages = [get(viewer, images, f"split=train&limit=7&offset={offset}")["items"] for offset in range(0, 30, 7)]
    assert [item["index"] for page in pages for item in page] == whole and len(whole) == 30
    assert get(viewer, images, "offset=1000")["items"] == []


def test_texts(viewer: Caller, workspace: Workspace, tmp_path: Path) -> None:
    writer = ItemWriter(tmp_path / "tree", None)
    for index in range(20):
        writer.add(f"text wörth {index}", "a" if index % 2 else "b")
    prepared.finish(writer, "text", SplitRule(0.2, 7), {})
    found = get(viewer, _with(workspace, packed(tmp_path / "tree")))
    assert [item["text"] for item in found["items"]] == [f"text wörth {item['index']}" for item in found["items"]]
    assert len(found["items"]) == 4


def test_a_version_that_is_not_ready(viewer: Caller, workspace: Workspace) -> None:
    answer = viewer.get(f"dataset-versions/{dataset_version(workspace).typed_id}/samples")
    assert (answer.status_code, answer.json()["code"]) == (409, "NotReady")


@pytest.mark.parametrize("query", ["split=test", "limit=51", "offset=x"])
def test_what_can_not_be_asked(viewer: Caller, images: DatasetVersion, query: str) -> None:
    answer = viewer.get(f"dataset-versions/{images.typed_id}/samples?{query}")
    assert answer.status_code == 422 and answer.json()["errors"][0]["fix"]


def test_only_the_parts_that_are_needed_are_read(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 1000)
    monkeypatch.setattr("apps.registry.samples.PART_BYTES", 1000)
    row = blob(workspace, bytes(range(250)) * 400)
    opened: list[int] = []
    unseal = parts.unseal

    def counted(key: bytes, blob_id: str, number: int, sealed: bytes) -> bytes:
        opened.append(number)
        return unseal(key, blob_id, number, sealed)

    monkeypatch.setattr(parts, "unseal", counted)
    file = BlobFile(row)
    file.seek(50_100)
    assert file.read(5) == bytes(range(100, 105))
    assert set(opened) == {50}
