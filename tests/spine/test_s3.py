"""Blobs in S3 (moto's server): inputs are read and outputs written at the store itself, by rights that end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from apps.accounts.models import Workspace
from apps.placements.models import Placement
from apps.registry import blobs, transfers
from apps.registry.parts import OVERHEAD_BYTES, PART_BYTES, part_name
from controlplane.storage import storage_settings
from tests.spine.conftest import World
from tests.spine.test_run import TRAIN, make_run
from workers import targets

LARGE = "\nopen(os.path.join(out, 'model.safetensors'), 'wb').write(bytes(17 * 2**20))"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(world: World, moto: str, live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    found = boto3.resource("s3").Bucket("blobs-of-a-test")
    if found.creation_date is None:
        found.create(CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    settings.STORAGES = {**settings.STORAGES, "default": storage_settings("s3://blobs-of-a-test/in/here", Path("/"))}
    settings.WINDLASS_PARTS_URL = live_server.url
    return found


def test_a_job_reads_and_writes_at_the_store(
    world: World, workspace: Workspace, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    monkeypatch.setattr(transfers, "_take", lambda request, name: passed.append(name))
    monkeypatch.setattr("workers.reconcilers.training.torchrun", lambda *_: ("python", "-c", TRAIN + LARGE))
    run = make_run(workspace)
    run.script = blobs.store_bytes(workspace, b"a script")
    run.save(update_fields=["script"])
    world.phase(run, "succeeded", "failed")
    assert run.phase == "succeeded", run.message
    assert run.result is not None
    assert b"".join(blobs.read(run.result.file("metrics.json"))) == b'{"held_out_accuracy": 0.98}'
    model = run.result.file("model.safetensors")
    assert model.size_bytes == 17 * 2**20
    assert b"".join(blobs.read(model)) == bytes(17 * 2**20)
    assert f"in/here/{part_name(str(model.pk), 1)}" in {item.key for item in bucket.objects.all()}
    assert passed == [], "no byte crossed the web server"


def test_grants_of_a_store_that_signs_end_within_a_day(
    world: World, workspace: Workspace, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.reconcilers.training.torchrun", lambda *_: ("python", "-c", "pass"))
    run = make_run(workspace)
    run.script = blobs.store_bytes(workspace, b"a script")
    run.save(update_fields=["script"])
    world.until(Placement.objects.exists)
    grants = targets.grants_for(Placement.objects.get())
    (read,) = grants.inputs["script.py"].parts
    query = parse_qs(urlsplit(read).query)
    assert (query["X-Amz-Expires"], query["X-Amz-Algorithm"]) == (["86400"], ["AWS4-HMAC-SHA256"])
    assert grants.ends_at == pytest.approx(time.time() + 86400, abs=60)
    assert (
        httpx.get(read).content
        == bucket.Object(f"in/here/{urlsplit(read).path.split('here/')[1]}").get()["Body"].read()
    )


def test_the_right_to_write_is_for_one_part_of_one_size_and_five_minutes(workspace: Workspace, bucket: Any) -> None:
    blob = blobs.new_output(workspace)
    where = f"{transfers.address(blob, transfers.WRITE)}/3"
    told = httpx.post(where, params={"size_bytes": "6"})
    address = told.json()["address"]
    query = parse_qs(urlsplit(address).query)
    assert (query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]) == (["300"], ["content-length;host"])
    assert httpx.put(address, content=b"sealed").status_code == 200
    assert bucket.Object(f"in/here/{part_name(str(blob.pk), 3)}").get()["Body"].read() == b"sealed"
    assert httpx.post(where, params={"size_bytes": str(PART_BYTES + OVERHEAD_BYTES + 1)}).status_code == 413
    assert httpx.post(where, params={"size_bytes": "-1"}).status_code == 413
    assert httpx.post(where).status_code == 413
    blobs.seal_output(blob, "0" * 64, 6)
    assert httpx.post(where, params={"size_bytes": "6"}).status_code == 409


def test_credentials_that_end_soon_give_shorter_rights(
    workspace: Workspace, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = blobs.storage()
    assert store.lifetime_seconds() == 24 * 3600
    left = 2 * 3600

    class Borrowed:
        def refresh_needed(self, seconds: int) -> bool:
            return left < seconds

    monkeypatch.setattr(store.connection.meta.client, "_get_credentials", lambda: Borrowed())
    assert store.lifetime_seconds() == 3600
