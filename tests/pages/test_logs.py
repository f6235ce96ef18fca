"""The log as the page reads it: the last lines, what came since, what stood before, from all streams by time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client

from apps.placements.models import LogChunk, Placement
from tests.pages.addresses import ROOT

pytestmark = pytest.mark.django_db


def write(row: Placement, stream: str, lines: list[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    offset = row.log_offsets.get(stream, 0)
    LogChunk.objects.create(placement=row, stream=stream, offset=offset, data=content)
    row.log_offsets = {**row.log_offsets, stream: offset + len(content)}
    row.save(update_fields=["log_offsets"])


def line(second: int, words: str) -> str:
    return f"2026-11-25T02:00:{second:02}.000000Z {words}"


@pytest.fixture
def replicas(busy: SimpleNamespace) -> Placement:
    row = Placement.objects.get(owner_id=busy.deployment.pk)
    write(row, "0", [line(1, "first"), line(3, "third wörd")])
    write(row, "1", [line(2, "WARNING second"), line(4, "Traceback: fourth")])
    return row


def read(client: Client, busy: SimpleNamespace, query: str = "") -> dict[str, Any]:
    answer: dict[str, Any] = client.get(f"{ROOT}deployments/{busy.deployment.typed_id}/log?{query}").json()
    return answer


def test_streams_stand_together_by_time(viewer: Client, busy: SimpleNamespace, replicas: Placement) -> None:
    lines = read(viewer, busy)["lines"][1:]
    assert [item["text"] for item in lines] == ["first", "WARNING second", "third wörd", "Traceback: fourth"]
    assert [item["source"] for item in lines] == ["replica 0", "replica 1", "replica 0", "replica 1"]
    assert [item["level"] for item in lines] == ["", "warn", "", "fail"]
    assert len({item["id"] for item in lines}) == 4


def test_what_came_since(viewer: Client, busy: SimpleNamespace, replicas: Placement) -> None:
    first = read(viewer, busy)
    assert read(viewer, busy, f"after={first['next']}")["lines"] == []
    write(replicas, "1", [line(9, "later")])
    later = read(viewer, busy, f"after={first['next']}")
    assert [item["text"] for item in later["lines"]] == ["later"] and not later["ended"]


def test_one_source_alone(viewer: Client, busy: SimpleNamespace, replicas: Placement) -> None:
    assert {item["source"] for item in read(viewer, busy, "source=replica+1")["lines"]} == {"replica 1"}


def test_another_attempt_is_read_from_its_beginning(viewer: Client, busy: SimpleNamespace, replicas: Placement) -> None:
    words = read(viewer, busy, "after=plc_00000000000000000000000000|0:999")["lines"]
    assert len(words) == 5


def test_earlier_lines_join_without_a_gap(viewer: Client, busy: SimpleNamespace) -> None:
    row = Placement.objects.get(owner_id=busy.deployment.pk)
    write(row, "0", [f"2026-11-25T02:{number // 60:02}:{number % 60:02}.0Z line {number}" for number in range(1000)])
    found = read(viewer, busy)
    lines = found["lines"]
    while found["previous"]:
        found = read(viewer, busy, f"before={found['previous']}")
        lines = found["lines"] + lines
    assert [item["text"] for item in lines[1:]] == [f"line {number}" for number in range(1000)]


def test_the_whole_log_as_text(viewer: Client, busy: SimpleNamespace, replicas: Placement) -> None:
    answer = viewer.get(f"{ROOT}deployments/{busy.deployment.typed_id}/log?as=text")
    assert "third wörd" in answer.content.decode() and answer["Content-Disposition"].startswith("attachment")
