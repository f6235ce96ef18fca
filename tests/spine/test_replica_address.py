"""Replicas far away pull who may call, and push what they answered, at one signed address."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import ApiKey, Workspace
from apps.clusters.models import Host
from apps.deployments import replicas
from apps.deployments.models import Deployment, UsageCursor, UsageWindow
from apps.placements.models import LogChunk, Place, Placement
from apps.placements.workload import Workload
from workers.reconcilers.usage import read_usage

LINE = {"time": 1_800_000_000.0, "window_seconds": 10, "requests": {"200": 3}, "keys": {}, "latency_ms": {}}


@pytest.fixture
def placement(workspace: Workspace) -> Placement:
    deployment = Deployment.objects.create(workspace=workspace, name="tiny", replicas=3)
    host = Host.objects.create(name="h", cpus=2, memory_bytes=2**30)
    return Placement.objects.create(
        workspace=workspace,
        owner_kind="deployment",
        owner_id=deployment.pk,
        slot="r1/far",
        place=Place.objects.create(host=host),
        workload=Workload("plc-x", "service", ("python",)).to_json(),
        phase="ready",
    )


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock of the cached bundle."""
    moment = [1_800_000_000.0]
    monkeypatch.setattr(replicas.time, "time", lambda: moment[0])
    monkeypatch.setattr("django.core.signing.time.time", lambda: moment[0])
    return moment


def where(placement: Placement) -> str:
    return "/replicas/" + replicas.address(placement).rpartition("/")[2]


def push(placement: Placement, offset: int, content: bytes, stream: str = "metrics-7d9-abcde") -> Any:
    return Client().post(f"{where(placement)}?stream={stream}&offset={offset}", content, "application/octet-stream")


def test_it_gives_the_bundle_and_says_when_nothing_changed(placement: Placement, second: list[float]) -> None:
    secret = hashlib.sha256(b"wl_key").hexdigest()
    key = ApiKey.objects.create(workspace=placement.workspace, name="k", hint="wl_k", sha256=secret)
    answer = Client().get(where(placement))
    assert answer.status_code == 200
    assert list(answer.json()["keys"]) == [secret]
    assert answer.json()["replicas"] == 3
    second[0] += 2
    again = Client().get(where(placement), headers={"if-none-match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    ApiKey.objects.filter(pk=key.pk).delete()
    second[0] += 2
    changed = Client().get(where(placement), headers={"if-none-match": answer["ETag"]})
    assert (changed.status_code, changed.json()["keys"]) == (200, {})


def test_many_replicas_that_pull_at_once_cost_one_look(placement: Placement, second: list[float]) -> None:
    address = where(placement)
    with CaptureQueriesContext(connection) as queries:
        assert {Client().get(address).status_code for _ in range(20)} == {200}
    assert len(queries) <= 3


def test_it_ends_with_the_placement_and_after_a_day(placement: Placement, second: list[float]) -> None:
    address = where(placement)
    Placement.objects.update(phase="succeeded", due_at=None)
    assert Client().get(address).status_code == 410
    assert push(placement, 0, b"x").status_code == 410
    second[0] += 24 * 3600 + 2
    assert Client().get(address).status_code == 403
    assert Client().get("/replicas/nonsense").status_code == 403
    fresh = where(placement)
    Placement.objects.all().delete()
    assert Client().get(fresh).status_code == 404


def test_usage_is_counted_once_however_often_it_arrives(placement: Placement) -> None:
    line = json.dumps(LINE).encode() + b"\n"
    assert push(placement, 0, line[:20]).json() == {"next_offset": 20}
    assert push(placement, 0, line).json() == {"next_offset": len(line)}, "the answer was lost, all is sent again"
    assert push(placement, 0, line).json() == {"next_offset": len(line)}
    gap = push(placement, 10_000, b"later")
    assert (gap.status_code, gap.json()) == (409, {"next_offset": len(line)})
    Placement.objects.update(log_offsets={"0": 12})  # the reconciler's own, which knows nothing of this stream
    deployment = Deployment.objects.get()
    read_usage(deployment)
    read_usage(deployment)
    window = UsageWindow.objects.get()
    assert (window.requests, window.replica) == (3, f"r1-{placement.typed_id[-4:]}-7d9-abcde")
    push(placement, len(line), line)
    read_usage(deployment)
    assert UsageWindow.objects.count() == 2
    assert b"".join(bytes(chunk.data) for chunk in LogChunk.objects.order_by("offset")) == line * 2


def test_only_usage_and_no_more_than_is_sound_is_taken(placement: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("0", "metrics-", "metrics-UPPER", "metrics-" + "x" * 17, "other-1"):
        assert push(placement, 0, b"x", stream).status_code == 400, stream
    assert Client().post(where(placement), b"x", "application/octet-stream").status_code == 400
    assert push(placement, 0, bytes(replicas.PUSH_BYTES + 1)).status_code == 413
    monkeypatch.setattr(replicas, "MOST_STREAMS", 1)
    assert push(placement, 0, b"x", "metrics-a").status_code == 200
    assert push(placement, 0, b"x", "metrics-b").status_code == 429
    assert UsageCursor.objects.count() == 1
