"""The first page says whether the machinery turns and what is stuck, in the same few queries at any size."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.training.models import TrainingRun
from tests.admin.conftest import training_run


def cards(client: Client) -> dict[str, Any]:
    response = client.get("/admin/")
    assert response.status_code == 200
    return {card.title: card for card in response.context["cards"]}


def test_an_empty_installation_says_that_nothing_turns(root: Client) -> None:
    shown = cards(root)
    assert (shown["Due now"].value, shown["Leased"].value, shown["Failing"].value) == ("0", "0", "0")
    assert (shown["Last sweep"].value, shown["Last sweep"].tone) == ("not yet", "bad")
    assert shown["Scheduled jobs"].tone == "warn"


def test_figures_are_those_of_the_rows(root: Client, workspace: Workspace) -> None:
    now = timezone.now()
    due, leased, failing, ended = (training_run(workspace, number) for number in (1, 2, 3, 4))
    TrainingRun.objects.filter(pk=leased.pk).update(lease_expires_at=now + timedelta(minutes=1), strikes=1)
    later = now + timedelta(hours=1)
    TrainingRun.objects.filter(pk=failing.pk).update(strikes=11, due_at=later, message="It fell over.")
    TrainingRun.objects.filter(pk=ended.pk).update(phase="failed", due_at=None, strikes=11)
    Host.objects.create(name="a", cpus=1, memory_bytes=1, heartbeat_at=now, swept_at=now, disk_free_bytes=10**9)
    PeriodicTask.objects.create(name="job", task="t", last_run_at=now, interval=interval())
    shown = cards(root)
    assert (shown["Due now"].value, shown["Leased"].value, shown["Failing"].value) == ("1", "1", "1")
    assert "1 in quarantine" in shown["Failing"].words and shown["Failing"].tone == "bad"
    assert shown["Last sweep"].tone == shown["Heartbeat"].tone == shown["Scheduled jobs"].tone == "ok"
    assert (shown["Disk free"].value, shown["Disk free"].tone) == ("1 GB", "warn")
    page = root.get("/admin/").content.decode()
    assert "It fell over." in page and "work=quarantined" in page
    Host.objects.update(heartbeat_at=now - timedelta(minutes=5), swept_at=now - timedelta(minutes=5))
    shown = cards(root)
    assert shown["Last sweep"].tone == shown["Heartbeat"].tone == "bad"
    assert due.typed_id


def interval() -> Any:
    from django_celery_beat.models import IntervalSchedule

    return IntervalSchedule.objects.create(every=60, period="seconds")


def test_queries_are_few_and_constant(root: Client, workspace: Workspace) -> None:
    def measured() -> int:
        root.get("/admin/")
        with CaptureQueriesContext(connection) as captured:
            root.get("/admin/")
        return len(captured)

    training_run(workspace, 1, strikes=3)
    few = measured()
    for number in range(2, 12):
        training_run(workspace, number, strikes=3)
        Host.objects.create(name=f"host-{number}", cpus=1, memory_bytes=1)
    assert measured() == few <= 8
