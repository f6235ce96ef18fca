"""Lists take the same few queries at any length, and large tables are never counted or searched by scanning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import AuditEntry, Workspace
from apps.core.admin.base import LargeTableAdmin
from apps.core.models import Event
from apps.deployments.models import UsageWindow
from apps.placements.models import LogChunk
from apps.training.models import MetricPoint, TrainingRun
from tests.admin.conftest import training_run
from tests.admin.pages import list_of

LARGE = [Event, AuditEntry, LogChunk, MetricPoint, UsageWindow]


def more_of(row: Any, count: int) -> None:
    """Copies of a row, where its uniqueness allows them."""
    model, fields = type(row), {}
    for number in range(1, count + 1):
        row.pk = None
        row._state.adding = True
        if model is LogChunk:
            fields = {"offset": number * 100}
        if model is MetricPoint:
            fields = {"step": 1 + number}
        for name, value in fields.items():
            setattr(row, name, value)
        row.save()


def queries(client: Client, address: str) -> list[str]:
    client.get(address)  # whatever is read once a process
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.parametrize("model", LARGE)
def test_large_tables_are_never_counted(root: Client, everything: dict[Any, Any], model: Any) -> None:
    assert isinstance(admin.site._registry[model], LargeTableAdmin)
    few = queries(root, list_of(model))
    more_of(everything[model], 60)
    for address in (list_of(model), list_of(model, p="2")):
        many = queries(root, address)
        assert len(many) == len(few)
        assert not [sql for sql in many if "COUNT(" in sql.upper()]
        ours = [sql for sql in many if f'FROM "{model._meta.db_table}"' in sql]
        assert ours and all("LIMIT 50" in sql for sql in ours)


def test_words_do_not_scan_events(root: Client, everything: dict[Any, Any], run: TrainingRun) -> None:
    nothing = queries(root, list_of(Event, q="anything"))
    assert not [sql for sql in nothing if 'FROM "core_event"' in sql]
    found = root.get(list_of(Event, q=run.typed_id)).context["cl"].result_list
    assert [event.row_id for event in found] == [run.pk]


def test_logs_are_listed_without_their_content(root: Client, everything: dict[Any, Any]) -> None:
    (sql,) = [sql for sql in queries(root, list_of(LogChunk)) if 'FROM "placements_logchunk"' in sql]
    assert '"placements_logchunk"."data",' not in sql


def test_managed_rows_take_the_same_queries_at_any_length(
    root: Client, everything: dict[Any, Any], workspace: Workspace
) -> None:
    from apps.exports.models import Export
    from apps.registry.models import DatasetVersion

    managed = [TrainingRun, Export, DatasetVersion]
    few = {model: len(queries(root, list_of(model))) for model in managed}
    for number in range(2, 8):
        training_run(workspace, number)
        for model in (Export, DatasetVersion):
            row = everything[model]
            row.pk, row.number, row._state.adding = model().pk, number, True
            row.save()
    for model in managed:
        assert len(queries(root, list_of(model))) == few[model] <= 12, model


def test_lists_filter_by_phase_goal_and_work(root: Client, workspace: Workspace) -> None:
    due, leased, quarantined = (training_run(workspace, number) for number in (1, 2, 3))
    soon = timezone.now() + timedelta(minutes=1)
    TrainingRun.objects.filter(pk=leased.pk).update(lease_expires_at=soon, phase="training", goal="stop")
    TrainingRun.objects.filter(pk=quarantined.pk).update(strikes=10, due_at=soon)

    def found(**query: str) -> set[Any]:
        return set(root.get(list_of(TrainingRun, **query)).context["cl"].result_list)

    assert found(phase="training") == found(goal__exact="stop") == found(work="leased") == {leased}
    assert found(work="due") == {due}
    assert found(work="quarantined") == found(work="failing") == {quarantined}
    assert found(workspace__id__exact=str(workspace.pk)) == {due, leased, quarantined}
    assert found(q=due.typed_id) == {due}
    assert found(q="digits") == {due, leased, quarantined}
    assert found(q="run_nothing") == set()
