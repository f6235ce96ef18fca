"""A place's look at its host: only what changed is written and woken, and nothing on the host can spoil it for all."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.placements.models import Place, Placement
from apps.placements.observation import Exit, Observed, Rank
from apps.placements.workload import Workload
from workers import engine, targets
from workers.reconcilers import RECONCILERS
from workers.targets.contract import Owned, Unavailable


class Target:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.seen: dict[str, Observed] = {}
        self.owned: list[Owned] = []

    def observe(self, place: Any) -> dict[str, Observed]:
        return self.seen

    def list_owned(self, place: Any) -> Iterable[Owned]:
        return self.owned

    def delete(self, place: Any, name: str) -> None:
        raise Unavailable("it does not end")


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    made = Target()
    monkeypatch.setattr(targets, "target_for", lambda place: made)
    return made


@pytest.fixture
def place(workspace: Workspace, settings: Any) -> Place:
    settings.WINDLASS_HINTS = False
    return Place.objects.create(host=Host.objects.create(name="h", cpus=2, memory_bytes=2**30))


def placed(workspace: Workspace, place: Place, slot: str, phase: str = "running") -> Placement:
    workload = Workload("plc-x", "job", ("python",)).to_json()
    owner = {"owner_kind": "training_run", "owner_id": workspace.pk}
    return Placement.objects.create(
        workspace=workspace, place=place, slot=slot, phase=phase, workload=workload, queue="none", **owner
    )


def look(place: Place) -> None:
    Place.objects.update(due_at=timezone.now())
    assert engine.reconcile("place", place.pk, RECONCILERS)
    place.refresh_from_db()


def test_what_did_not_change_wakes_nobody(workspace: Workspace, place: Place, target: Target) -> None:
    row = placed(workspace, place, "node-0")
    target.seen = {row.outside_name: Observed("running", ranks=(Rank(0, "running"),))}
    look(place)
    row.refresh_from_db()
    woken = row.wakes
    assert row.seen == target.seen[row.outside_name]
    look(place)
    row.refresh_from_db()
    assert row.wakes == woken
    target.seen = {row.outside_name: Observed("running", ranks=(Rank(0, "running"),), log_bytes={"0": 7})}
    look(place)
    row.refresh_from_db()
    assert row.wakes == woken + 1


def test_text_that_no_column_takes_spoils_nothing(workspace: Workspace, place: Place, target: Target) -> None:
    bad, good = placed(workspace, place, "node-0"), placed(workspace, place, "node-1")
    target.seen = {
        bad.outside_name: Observed("exited", exit=Exit(1, None, "error", "a \udcff\0b")),
        good.outside_name: Observed("running"),
    }
    look(place)
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (place.phase, place.strikes) == ("watching", 0)
    assert bad.observed["exit"]["message"] == "a ?b" and good.observed["state"] == "running"


def test_what_cannot_be_removed_keeps_nobody_from_being_seen(
    workspace: Workspace, place: Place, target: Target
) -> None:
    left, row = placed(workspace, place, "node-0", "failed"), placed(workspace, place, "node-1")
    Placement.objects.filter(pk=left.pk).update(phase_since=timezone.now() - timedelta(hours=1), due_at=None)
    target.owned = [Owned(left.outside_name, True)]
    target.seen = {row.outside_name: Observed("running")}
    look(place)
    row.refresh_from_db()
    assert (place.phase, place.strikes, row.observed["state"]) == ("watching", 0, "running")
