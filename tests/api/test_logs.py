"""Logs and metrics: by offset, by the last lines, by attempt; and put together for a chart."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from apps.accounts.models import Workspace
from apps.placements.models import LogChunk, Place, Placement
from apps.training.models import MetricPoint, TrainingRun
from tests.api.conftest import Caller
from tests.api.rows import ended, training_run

pytestmark = pytest.mark.django_db
LINES = [f"2026-11-25T01:02:{second:02}.000000Z line {second} is wörth a look\n" for second in range(40)]
TEXT = "".join(LINES)


def placement(run: TrainingRun, attempt: int = 1, phase: str = "running", text: str = TEXT) -> Placement:
    place = Place.objects.first() or Place.objects.create()
    content = text.encode()
    row = Placement.objects.create(
        workspace_id=run.workspace_id,
        owner_kind=run.kind,
        owner_id=run.pk,
        slot="node-0",
        attempt=attempt,
        place=place,
        workload={},
        log_offsets={"0": len(content), "metrics-0": 7},
    )
    for start in range(0, len(content), 777):
        LogChunk.objects.create(placement=row, stream="0", offset=start, data=content[start : start + 777])
    return ended(row, phase) if phase != "running" else row  # type: ignore[no-any-return]


def test_a_log_read_in_pieces_is_the_whole(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    row = placement(run)
    text, offset = "", 0
    while True:
        log = developer.get(f"training-runs/{run.typed_id}/logs?offset={offset}&limit=500").json()
        assert log["offset"] == offset
        if not log["text"]:
            break
        assert log["text"].endswith("\n")
        text, offset = text + log["text"], log["next_offset"]
    assert text == TEXT and offset == len(TEXT.encode())
    assert (log["end"], log["placement"], log["streams"]) == (False, row.typed_id, {"0": offset})


def test_the_end_is_told_once_nothing_will_follow(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    placement(run, phase="succeeded")
    log = developer.get(f"training-runs/{run.typed_id}/logs").json()
    assert log["text"] == TEXT and log["end"] is True


@pytest.mark.parametrize("lines", [1, 3, 39, 40, 10_000])
def test_the_last_lines(developer: Caller, workspace: Workspace, lines: int) -> None:
    run = training_run(workspace)
    row = placement(run)
    for path in (f"training-runs/{run.typed_id}", f"placements/{row.typed_id}"):
        assert developer.get(f"{path}/logs?tail={lines}").json()["text"] == "".join(LINES[-lines:])


def test_the_last_attempt_unless_another_is_meant(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    placement(run, 1, "failed", "first\n")
    placement(run, 2, "running", "second\n")
    path = f"training-runs/{run.typed_id}/logs"
    assert developer.get(path).json()["text"] == "second\n"
    assert developer.get(f"{path}?attempt=1").json()["text"] == "first\n"
    assert developer.get(f"{path}?attempt=3").status_code == 404
    assert developer.get(f"{path}?stream=1").json()["text"] == ""


def test_before_anything_ran_the_log_is_empty(developer: Caller, workspace: Workspace) -> None:
    log = developer.get(f"training-runs/{training_run(workspace).typed_id}/logs").json()
    assert (log["text"], log["end"], log["attempt"]) == ("", False, 0)


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=0", "tail=99999", "attempt=0"])
def test_a_place_in_the_log_that_is_none(developer: Caller, workspace: Workspace, query: str) -> None:
    run = training_run(workspace)
    answer = developer.get(f"training-runs/{run.typed_id}/logs?{query}")
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == query.partition("=")[0]


def points(run: TrainingRun, name: str, values: list[float]) -> None:
    now = datetime.now(UTC)
    MetricPoint.objects.bulk_create(
        [MetricPoint(run=run, name=name, step=step, value=value, at=now) for step, value in enumerate(values)]
    )


def test_few_points_are_answered_as_they_are(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    points(run, "loss", [3.0, 2.0, 1.0])
    points(run, "accuracy", [0.5])
    series = developer.get(f"training-runs/{run.typed_id}/metrics").json()["series"]
    assert (series["loss"]["steps"], series["loss"]["values"]) == ([0, 1, 2], [3.0, 2.0, 1.0])
    only = developer.get(f"training-runs/{run.typed_id}/metrics?names=loss&since_step=1").json()["series"]
    assert {name: found["steps"] for name, found in only.items()} == {"loss": [2]}


def test_of_many_points_no_spike_is_lost(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    values = [1.0] * 5000
    values[1234] = 99.0
    points(run, "loss", values)
    loss = developer.get(f"training-runs/{run.typed_id}/metrics?max_points=100").json()["series"]["loss"]
    assert 50 <= len(loss["steps"]) <= 100 and loss["steps"][-1] == 4999
    assert max(loss["maximum"]) == 99.0 and max(loss["values"]) < 99.0
    assert all(len(column) == len(loss["steps"]) for column in loss.values())


def test_a_loss_that_is_no_number_is_null(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    points(run, "loss", [1.0, float("nan")])
    answer = developer.get(f"training-runs/{run.typed_id}/metrics")
    assert answer.json()["series"]["loss"]["values"] == [1.0, None]
