from datetime import timedelta

import pytest
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.core import hints
from apps.placements.models import Place
from workers import engine


def make_places(count: int) -> list[Place]:
    hosts = [Host.objects.create(name=f"h{number}", cpus=2, memory_bytes=2**30) for number in range(count)]
    return [Place.objects.create(host=host, queue="host:x") for host in hosts]


def test_what_is_due_is_published_once_in_thirty_seconds(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_places(3)
    sent: list[tuple[str, str, str]] = []
    monkeypatch.setattr(hints, "publish", lambda *message: sent.append(message))
    assert engine.sweep("host:x", lambda kind, row_id: None) == 3
    assert engine.sweep("host:x", lambda kind, row_id: None) == 0
    Place.objects.update(hinted_at=timezone.now() - timedelta(seconds=31))
    assert engine.sweep("host:x", lambda kind, row_id: None) == 3
    assert len(sent) == 6


def test_a_dead_broker_stops_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    places = make_places(3)

    def dead(*message: str) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(hints, "publish", dead)
    ran: list[str] = []
    engine.sweep("host:x", lambda kind, row_id: ran.append(row_id))
    assert sorted(ran) == sorted(str(place.pk) for place in places)


def test_other_queues_leased_and_later_rows_are_left(workspace: Workspace) -> None:
    mine, other, leased, later = make_places(4)
    future = timezone.now() + timedelta(minutes=1)
    Place.objects.filter(pk=other.pk).update(queue="host:y")
    Place.objects.filter(pk=leased.pk).update(lease_expires_at=future)
    Place.objects.filter(pk=later.pk).update(due_at=future)
    assert engine.due("host:x") == [("place", str(mine.pk))]


def test_the_sleep_ends_when_the_next_row_is_due(workspace: Workspace) -> None:
    make_places(1)
    Place.objects.update(due_at=timezone.now() + timedelta(seconds=1))
    assert 0.3 < engine.next_due_seconds("host:x", 2.0) <= 1.0
    assert engine.next_due_seconds("host:none", 2.0) == 2.0
