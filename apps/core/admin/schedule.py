"""The scheduled jobs, as rows of django-celery-beat: their times can be changed, what they call can't."""

from __future__ import annotations

import json
from typing import Any

from celery import current_app
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from kombu.exceptions import OperationalError

from apps.accounts import audit
from apps.core.actor import Actor
from apps.core.admin.base import ConsoleAdmin, Operation
from apps.core.errors import Conflict

for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule):
    admin.site.unregister(model)


def run_now(task: PeriodicTask, actor: Actor) -> None:
    """Send it to the workers, once, besides its schedule. Raises Conflict where the broker does not answer."""
    with transaction.atomic():
        audit.record(actor, "schedule.run", f"periodictask:{task.pk}", {"name": task.name})
        try:
            current_app.send_task(task.task, json.loads(task.args), json.loads(task.kwargs), queue=task.queue or None)
        except OperationalError as error:
            raise Conflict("The broker does not answer. It runs at its next time, or try again in a minute.") from error


RUN = Operation(
    "run",
    "Run now",
    "A worker runs it once, now. Its schedule stays as it is.",
    run_now,
    icon="play_arrow",
)


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(ConsoleAdmin):
    """Whoever may choose a job's function could have workers call anything: those are fixed, their times are not."""

    editable = ("enabled", "interval", "crontab", "start_time", "expires", "expire_seconds", "description")
    fields = ("name", "task", *editable, "args", "kwargs", "queue", "last_run_at", "total_run_count", "date_changed")
    operations = (RUN,)
    list_display = ("name", "enabled", "scheduler", "last_run_at", "total_run_count", "task")
    list_select_related = ("interval", "crontab", "solar", "clocked")
    list_filter = ("enabled",)
    search_fields = ("name", "task")


class ScheduleAdmin(ConsoleAdmin):
    """When jobs run. Deleting one would take its jobs along, so none is deleted here."""

    addable = True

    def __init__(self, schedule: Any, admin_site: Any) -> None:
        self.editable = tuple(field.name for field in schedule._meta.concrete_fields if field.name != "id")  # type: ignore[misc]
        super().__init__(schedule, admin_site)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.editable


for model in (ClockedSchedule, CrontabSchedule, IntervalSchedule, SolarSchedule):
    admin.site.register(model, ScheduleAdmin)


@admin.register(PeriodicTasks)
class PeriodicTasksAdmin(ConsoleAdmin):
    """When a schedule was last changed: beat reads them anew then."""

    list_display = ("ident", "last_update")
