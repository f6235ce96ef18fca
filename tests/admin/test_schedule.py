"""Scheduled jobs: their times can be changed by superusers, what they call can't; and they can be run at once."""

from __future__ import annotations

from queue import Empty
from typing import Any

import pytest
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from apps.accounts.models import AuditEntry
from tests.admin.pages import do, list_of, page_of, words


def test_times_change_and_calls_do_not(root: Client, everything: dict[Any, Any]) -> None:
    task = everything[PeriodicTask]
    slower = IntervalSchedule.objects.create(every=2, period="hours")
    before = PeriodicTasks.last_change()
    form = {"enabled": "on", "interval": str(slower.pk), "task": "celery.other", "args": "[1]", "name": "other"}
    assert root.post(page_of(task), form).status_code == 302
    task.refresh_from_db()
    assert (task.interval, task.task, task.args, task.name) == (slower, "workers.tasks.clean_up", "[]", "job")
    assert PeriodicTasks.last_change() != before
    assert "nterval" in AuditEntry.objects.get(action="periodictask.change").detail["change"]


def test_a_job_needs_one_time(root: Client, everything: dict[Any, Any]) -> None:
    task = everything[PeriodicTask]
    assert root.post(page_of(task), {"enabled": "on"}).status_code == 200
    task.refresh_from_db()
    assert task.interval is not None


def test_staff_only_look(staff: Client, everything: dict[Any, Any]) -> None:
    assert staff.post(page_of(everything[PeriodicTask]), {"enabled": ""}).status_code == 403


def test_schedules_are_made(root: Client) -> None:
    assert root.post(list_of(IntervalSchedule) + "add/", {"every": "5", "period": "minutes"}).status_code == 302
    assert IntervalSchedule.objects.filter(every=5, period="minutes").exists()


def test_run_now_sends_it_once(staff: Client, everything: dict[Any, Any], ground: Any) -> None:
    from controlplane.celery import app

    PeriodicTask.objects.update(queue="admin-test")
    assert "Run now: done" in words(do(staff, everything[PeriodicTask], "run"))
    with app.connection_for_read() as connection, connection.SimpleQueue("admin-test") as queue:
        message = queue.get(timeout=10)
        message.ack()
        assert message.headers["task"] == "workers.tasks.clean_up"
        with pytest.raises(Empty):
            queue.get(block=False)
    assert AuditEntry.objects.filter(action="schedule.run").count() == 1


def test_run_now_says_when_the_broker_is_away(staff: Client, everything: dict[Any, Any], settings: Any) -> None:
    from controlplane.celery import app

    before = app.conf.broker_url
    app.conf.broker_write_url = "redis://127.0.0.1:1/0"
    app.pool.force_close_all()
    app.amqp._producer_pool = None
    try:
        assert "The broker does not answer" in words(do(staff, everything[PeriodicTask], "run"))
    finally:
        app.conf.broker_write_url = before
        app.amqp._producer_pool = None
    assert not AuditEntry.objects.filter(action="schedule.run").exists()
