"""Uploads that arrive wrong, and a disk that is full: nothing half-written stays, and the next upload works."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.registry.models import Blob
from tests.api.conftest import make_workspace
from tests.bad_input.conftest import MIB, RAW, World

LARGE = """
import os
open(os.path.join(os.environ["WINDLASS_OUT"], "model.safetensors"), "wb").write(os.urandom(3 * 1024**2))
"""


@pytest.fixture(scope="module")
def cramped(world: World) -> World:
    """A workspace of its own: what it stores goes with the small disk."""
    return World(make_workspace("cramped"), world.queues, world.directory)


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """Storage of 2 MiB."""
    storage = world.directory / "storage"
    storage.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(storage)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield storage
    finally:
        subprocess.run(["umount", str(storage)], check=True)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_full_disk_keeps_nothing_half_written(cramped: World, small_disk: Path) -> None:
    blobs = Blob.objects.count()
    refused = cramped.api("PUT", "blobs", bytes(3 * MIB), Content_Type=RAW)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (507, "StorageFull")
    assert refused["Content-Type"] == "application/problem+json"
    assert problem["detail"] == (
        "Storing 3.1 MB needs more than the 2.1 MB free. Nothing half-written was kept. Free some space, or set an "
        "object store with WINDLASS_STORAGE, then try again."
    )
    assert files(small_disk) == [] and Blob.objects.count() == blobs
    content = b"small enough"
    kept = cramped.upload(content)
    assert b"".join(cramped.api.get(f"blobs/{kept}/content").streaming_content) == content


def test_an_upload_that_can_not_fit_is_refused_before_it_is_sent(cramped: World, small_disk: Path) -> None:
    refused = cramped.api.post("blobs", {"sha256": "1" * 64, "size_bytes": 4_200_000_000})
    assert (refused.status_code, refused.json()["code"]) == (507, "StorageFull")
    assert refused.json()["detail"].startswith("Storing 4.2 GB needs more than the 2.1 MB free. Nothing half-written ")
    assert not Blob.objects.filter(sha256="1" * 64).exists()


def test_a_run_whose_model_does_not_fit_fails_and_leaves_nothing(cramped: World, small_disk: Path) -> None:
    told = cramped.end(cramped.start(LARGE))
    assert (told["phase"], told["reason"]) == ("failed", "StorageFailed")
    assert told["message"] == (
        "What it left could not be stored: the disk is full. Nothing half-written was kept. Free some space, then "
        "start it again."
    )
    cramped.nothing_left()
    cramped.goes_on()


def test_content_with_another_checksum_is_thrown_away(world: World) -> None:
    content = b"what was announced"
    announced = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    blob = world.api.post("blobs", announced).json()["id"]
    short = world.api("PUT", f"blobs/{blob}/parts/0", b"short", Content_Type=RAW)
    assert (short.status_code, short.json()["code"]) == (422, "WrongContent")
    assert short.json()["detail"] == "Part 0 must have 18 bytes; 5 arrived. Send it again."
    wrong = bytes(reversed(content))
    assert world.api("PUT", f"blobs/{blob}/parts/0", wrong, Content_Type=RAW).status_code == 200
    refused = world.api.post(f"blobs/{blob}/complete")
    assert (refused.status_code, refused.json()["code"]) == (422, "WrongContent")
    assert refused.json()["detail"] == (
        f"The upload arrived with checksum {hashlib.sha256(wrong).hexdigest()[:12]}…, you announced "
        f"{announced['sha256'][:12]}…. Nothing was stored. Upload it again."
    )
    assert world.api.get(f"blobs/{blob}").status_code == 404
    blob = world.api.post("blobs", announced).json()["id"]
    assert world.api("PUT", f"blobs/{blob}/parts/0", content, Content_Type=RAW).status_code == 200
    assert world.api.post(f"blobs/{blob}/complete").json()["state"] == "ready"
    world.nothing_left()
