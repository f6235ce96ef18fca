"""Lists: pages that miss nothing, filters, and the same number of queries at any length."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts import audit, services
from apps.accounts.models import User, Workspace
from apps.core.actor import WINDLASS
from apps.deployments.services import create_deployment
from apps.placements.models import Placement
from apps.registry.services import create_dataset
from tests.api.clouds import account, cluster, host, joined, offer, placed, resource
from tests.api.conftest import Caller
from tests.api.rows import blob, dataset_version, ended, export, model_version, training_run

pytestmark = pytest.mark.django_db


def test_pages_follow_one_another_and_stay_right_while_rows_are_added(developer: Caller, workspace: Workspace) -> None:
    names = [f"d{number}" for number in range(7)]
    for name in names:
        create_dataset(workspace, WINDLASS, name=name)
    seen, url = [], "datasets?limit=3"
    while url:
        page = developer.get(url).json()
        seen += [item["name"] for item in page["items"]]
        create_dataset(workspace, WINDLASS, name=f"new-{len(seen)}")
        url = page["next"]
    assert seen == names[::-1]


def test_filters(developer: Caller, workspace: Workspace) -> None:
    first, second = training_run(workspace, "digits"), training_run(workspace, "flowers")
    ended(second, "failed")

    def ids_of(query: str) -> list[str]:
        return [item["id"] for item in developer.get(f"training-runs?{query}").json()["items"]]

    assert ids_of("phase=failed") == [second.typed_id]
    assert ids_of("phase=failed,queued") == [second.typed_id, first.typed_id]
    assert ids_of("name=digits") == [first.typed_id]
    assert ids_of(f"model={first.model.typed_id}") == [first.typed_id]
    assert ids_of(f"dataset_version={first.dataset_version.typed_id}") == [first.typed_id]
    assert ids_of("created_after=2000-01-01T00:00:00Z&phase=succeeded") == []


def test_events_by_row_kind_and_actor(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    developer.post(f"training-runs/{run.typed_id}/cancel")
    events = developer.get(f"events?row={run.typed_id}").json()["items"]
    assert [event["reason"] for event in events] == ["StopWanted", "Created"]
    assert developer.get("events?kind=export").json()["items"] == []
    (mine,) = developer.get(f"events?kind=training_run&actor={events[0]['actor']}").json()["items"]
    assert mine["row"] == run.typed_id
    assert developer.get("events?row=nonsense").status_code == 422


def _placement(workspace: Workspace, number: int) -> None:
    run = training_run(workspace)
    place = joined(cluster(workspace, f"c{number}")) if number % 2 else host(f"h{number}")
    Placement.objects.create(
        workspace=workspace, owner_kind=run.kind, owner_id=run.pk, slot="node-0", place=place, workload={"replicas": 1}
    )


def _member(workspace: Workspace, number: int) -> None:
    User.objects.create_user(f"u{User.objects.count()}@example.org")
    services.add_member(workspace, WINDLASS, email=f"u{User.objects.count() - 1}@example.org", role="viewer")


def _cluster(workspace: Workspace, number: int) -> None:
    row = cluster(workspace, f"c{number}")
    resource(row)
    joined(row)


MAKERS: dict[str, Any] = {
    "datasets": lambda workspace, n: create_dataset(workspace, WINDLASS, name=f"d{n}-{blob(workspace).pk.hex[-9:]}{n}"),
    "dataset-versions": lambda workspace, n: dataset_version(workspace),
    "models": lambda workspace, n: model_version(workspace, f"m{n}"),
    "model-versions": lambda workspace, n: model_version(workspace),
    "training-runs": lambda workspace, n: training_run(workspace),
    "exports": lambda workspace, n: export(workspace),
    "deployments": lambda workspace, n: create_deployment(workspace, WINDLASS, name=f"d{n}", export=export(workspace)),
    "placements": _placement,
    "events": lambda workspace, n: dataset_version(workspace),
    "api-keys": lambda workspace, n: services.create_api_key(workspace, WINDLASS, name="k"),
    "members": _member,
    "secrets": lambda workspace, n: services.set_secret(workspace, WINDLASS, name=f"s{n}", value="x"),
    "audit": lambda workspace, n: audit.record(WINDLASS, "test.act", workspace=workspace),
    "cloud-accounts": lambda workspace, n: account(workspace, f"a{n}"),
    "clusters": _cluster,
    "offers": lambda workspace, n: offer(f"m{n}.large"),
    "hosts": lambda workspace, n: host(f"h{n}"),
    "places": lambda workspace, n: placed(host(f"h{n}"), workspace),
}


@pytest.mark.parametrize("path", sorted(MAKERS))
def test_a_list_takes_the_same_queries_at_any_length(admin: Caller, workspace: Workspace, path: str) -> None:
    def queries() -> tuple[int, int]:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            answer = admin.get(f"{path}?limit=200")
        assert answer.status_code == 200, answer.content
        return len(answer.json()["items"]), len(captured)

    admin.get("datasets")  # the key's time of last use is written once a minute
    for number in range(3):
        MAKERS[path](workspace, number)
    few, few_queries = queries()
    for number in range(3, 12):
        MAKERS[path](workspace, number)
    many, many_queries = queries()
    assert many >= few + 9
    assert many_queries == few_queries <= 3, json.dumps([path, few_queries, many_queries])
