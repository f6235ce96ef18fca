"""Under the real server: gigabytes would pass with little memory, up and down."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.db import connection

from apps.accounts import services
from apps.core.actor import WINDLASS
from apps.registry.models import Blob
from tests.api.conftest import make_workspace

SIZE_BYTES = 160 * 1024**2
ALLOWED_BYTES = 80 * 1024**2
PIECE = bytes(range(256)) * 4096


@pytest.fixture
def server(transactional_db: None, ground: Path, tmp_path: Path) -> Iterator[tuple[httpx.Client, int]]:
    secret = services.create_api_key(make_workspace("team"), WINDLASS, name="k", role="developer").secret
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parameters = connection.settings_dict
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")},
        "WINDLASS_VAR": str(ground),
        "WINDLASS_HINTS": "false",
        "DATABASE_URL": f"postgresql://{parameters['USER']}@/{parameters['NAME']}?host={parameters['HOST']}",
    }
    command = [sys.executable, "-m", "uvicorn", "controlplane.asgi:application", "--port", str(port)]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, "--lifespan", "off"], env=environment, stdout=log, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}/api/v1/workspaces/team/"
        headers = {"Authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=base, headers=headers, timeout=60, trust_env=False) as client:
            for _ in range(200):
                try:
                    if client.get("datasets").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield client, process.pid
    finally:
        process.terminate()
        process.wait(10)


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def test_a_large_upload_and_its_download_take_little_memory(server: tuple[httpx.Client, int]) -> None:
    client, pid = server
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for _ in range(SIZE_BYTES // len(PIECE)):
            digest.update(PIECE)
            yield PIECE

    before = peak_bytes(pid)
    stored = client.put("blobs", content=pieces(), headers={"Content-Type": "application/octet-stream"})
    assert stored.status_code == 201, stored.text
    answer = stored.json()
    assert (answer["size_bytes"], answer["sha256"]) == (SIZE_BYTES, digest.hexdigest())
    got = hashlib.sha256()
    with client.stream("GET", f"blobs/{answer['id']}/content") as download:
        assert download.headers["Content-Length"] == str(SIZE_BYTES)
        for piece in download.iter_bytes():
            got.update(piece)
    assert got.hexdigest() == digest.hexdigest()
    assert client.get(f"blobs/{answer['id']}/content", headers={"Range": "bytes=-4"}).content == PIECE[-4:]
    grown = peak_bytes(pid) - before
    assert grown < ALLOWED_BYTES, f"{grown / 1024**2:.0f} MiB"


def test_an_upload_that_breaks_off_leaves_nothing(server: tuple[httpx.Client, int]) -> None:
    client, _pid = server

    def broken() -> Iterator[bytes]:
        yield PIECE * 20
        raise ConnectionError("the client went away")

    with pytest.raises(ConnectionError):
        client.put("blobs", content=broken(), headers={"Content-Type": "application/octet-stream"})
    assert client.get("datasets").status_code == 200
    assert not Blob.objects.exists()
