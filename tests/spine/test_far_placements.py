"""A placement far away: its logs have no known size, what it was granted ends, and nobody is told who may call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Cluster
from apps.placements.models import LogChunk, Place, Placement
from apps.placements.observation import Exit, Observed
from apps.placements.workload import Workload
from workers import engine, targets
from workers.reconcilers import RECONCILERS
from workers.targets.contract import Chunk, Grants


class Target:
    def __init__(self) -> None:
        self.log = b"0123456789"
        self.read, self.applied, self.deleted = 0, 0, 0

    def apply(self, *_: Any) -> None:
        self.applied += 1

    def delete(self, *_: Any) -> None:
        self.deleted += 1

    def logs(self, _place: Any, _name: str, _stream: str, offset: int, limit: int) -> Chunk:
        self.read += 1
        data = self.log[offset : offset + min(limit, 4)]
        return Chunk(data, offset, offset + len(data))


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    made = Target()
    monkeypatch.setattr(targets, "target_for", lambda _place: made)
    return made


@pytest.fixture
def row(workspace: Workspace, settings: Any) -> Placement:
    settings.WINDLASS_HINTS = False
    cluster = Cluster.objects.create(workspace=workspace, name="k", provider="kubeconfig")
    place = Place.objects.create(target="kubernetes", cluster=cluster, workspace=workspace)
    placement = Placement.objects.create(
        workspace=workspace,
        place=place,
        slot="node-0",
        phase="running",
        workload=Workload("plc-x", "job", ("python",)).to_json(),
        applied_generation=1,
        owner_kind="training_run",
        owner_id=workspace.pk,
    )
    Placement.objects.filter(pk=placement.pk).update(applied_generation=placement.generation)
    return placement


def see(row: Placement, state: Any = "running", exit: Exit | None = None) -> None:
    """What the place saw of it just now, and a step."""
    seen = Observed(state, exit=exit, log_bytes={"0": None}).to_json()
    Placement.objects.filter(pk=row.pk).update(observed=seen, observed_at=timezone.now(), due_at=timezone.now())
    assert engine.reconcile("placement", row.pk, RECONCILERS)
    row.refresh_from_db()


def stored(row: Placement) -> bytes:
    return b"".join(bytes(chunk.data) for chunk in LogChunk.objects.filter(placement=row).order_by("offset"))


def test_a_log_of_unknown_size_is_read_until_nothing_comes_and_then_rests(row: Placement, target: Target) -> None:
    see(row)
    assert stored(row) == b"0123456789" and row.logs_read_at
    reads = target.read
    target.log += b"more"
    see(row)
    assert target.read == reads
    assert row.due_at and 0 < (row.due_at - timezone.now()).total_seconds() < 6
    Placement.objects.filter(pk=row.pk).update(logs_read_at=timezone.now() - timedelta(seconds=6))
    see(row)
    assert stored(row) == b"0123456789more"


def test_a_log_is_whole_before_what_wrote_it_is_deleted(row: Placement, target: Target) -> None:
    see(row)
    target.log += b" and its end"
    see(row, "exited", Exit(0, None, "ok"))
    assert row.phase == "cleaning" and target.deleted == 0
    see(row, "exited", Exit(0, None, "ok"))
    see(row, "exited", Exit(0, None, "ok"))
    assert stored(row) == b"0123456789 and its end" and target.deleted == 1


@pytest.mark.parametrize(("left", "applied"), [(0.9, 0), (0.5, 1)])
def test_what_it_was_granted_is_renewed_well_before_it_ends(
    row: Placement, target: Target, monkeypatch: pytest.MonkeyPatch, left: float, applied: int
) -> None:
    life, now = timedelta(hours=24), timezone.now()
    granted = now - (1 - left) * life
    Placement.objects.filter(pk=row.pk).update(mutated_at=granted, grants_end_at=granted + life, logs_read_at=now)
    ends = datetime(2030, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(targets, "grants_for", lambda _row: Grants(ends_at=ends.timestamp()))
    see(row)
    assert target.applied == applied
    assert row.grants_end_at == (ends if applied else granted + life)
