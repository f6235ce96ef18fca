"""The live stream: ids of what changed, at once, to members only, and without holding a database connection."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.test import Client

from apps.accounts.models import User, Workspace
from apps.core.wants import notify
from apps.training.models import TrainingRun
from tests.api import rows
from tests.pages.conftest import make_workspace

WITHIN_SECONDS = 0.1
CHANGES = 20
STREAMS = 12


def backends() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


@pytest.fixture
def team(transactional_db: None) -> Workspace:
    return make_workspace("team")


@pytest.fixture
def server(team: Workspace, ground: Path, tmp_path: Path) -> Iterator[httpx.AsyncClient]:
    """The real web server on the test's database, and a client that is signed in there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    signed_in = Client()
    signed_in.force_login(User.objects.get(), backend="django.contrib.auth.backends.ModelBackend")
    parameters = connection.settings_dict
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")},
        "WINDLASS_VAR": str(ground),
        "WINDLASS_HINTS": "false",
        "DATABASE_URL": f"postgresql://{parameters['USER']}@/{parameters['NAME']}?host={parameters['HOST']}",
    }
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "controlplane.asgi:application",
        "--port",
        str(port),
        "--lifespan",
        "off",
        "--timeout-graceful-shutdown",
        "1",
    ]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if httpx.get(f"{base}/livez", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        cookies = {name: morsel.value for name, morsel in signed_in.cookies.items()}
        yield httpx.AsyncClient(base_url=base, cookies=cookies, timeout=15, trust_env=False)
    finally:
        process.terminate()
        process.wait(10)


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """(event, data) as they come."""
    name = "message"
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, line.removeprefix("data: ")
            name = "message"


def test_a_commit_is_told_within_a_tenth_of_a_second(team: Workspace, server: httpx.AsyncClient) -> None:
    run = rows.training_run(team)
    elsewhere = rows.training_run(make_workspace("other"))

    def touch(row: TrainingRun) -> float:
        begun = time.perf_counter()
        notify(row)  # in autocommit: the commit is part of this statement
        return begun

    async def listen() -> list[float]:
        spent = []
        async with server.stream("GET", "/w/team/stream") as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert "no-cache" in response.headers["cache-control"]
            coming = events(response)
            assert await anext(coming) == ("alive", "5")
            assert json.loads((await anext(coming))[1])["kind"] == "*"  # listening now: whatever was missed is fetched
            for _ in range(CHANGES):
                await sync_to_async(touch)(elsewhere)
                committed = await sync_to_async(touch)(run)
                name, data = await anext(coming)
                spent.append(time.perf_counter() - committed)
                assert name == "message"
                assert json.loads(data) == {"kind": "training_run", "id": run.typed_id, "version": 1, "event": None}
        await sync_to_async(connections.close_all)()
        return spent

    spent = asyncio.run(listen())
    print(f"row change to stream event: p50 {statistics.median(spent) * 1000:.1f} ms, worst {max(spent) * 1000:.1f} ms")
    assert statistics.median(spent) < WITHIN_SECONDS


def test_open_streams_hold_no_connection(server: httpx.AsyncClient) -> None:
    async def opened() -> int:
        streams = [server.stream("GET", "/w/team/stream") for _ in range(STREAMS)]
        for entered in streams:
            response = await entered.__aenter__()
            assert await anext(events(response)) == ("alive", "5")
        await asyncio.sleep(0.5)
        count = await sync_to_async(backends)()
        for entered in streams:
            await entered.__aexit__(None, None, None)
        await sync_to_async(connections.close_all)()
        return int(count)

    assert asyncio.run(opened()) < STREAMS / 2  # the one that listens, and a small pool


def test_a_stranger_hears_nothing(server: httpx.AsyncClient) -> None:
    async def asked() -> tuple[int, int]:
        foreign = await server.get("/w/nowhere/stream")
        server.cookies.clear()
        anonymous = await server.get("/w/team/stream")
        return foreign.status_code, anonymous.status_code

    assert asyncio.run(asked()) == (404, 404)
