"""Places: every host and the workspace's own clusters; runs and deployments name them, and nobody those of others."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.core.models import Event
from apps.deployments.models import Deployment
from apps.placements.models import Place
from apps.registry import blobs
from apps.training.models import TrainingRun
from tests.api.clouds import GIB, cluster, host, joined, placed
from tests.api.conftest import Caller
from tests.api.rows import dataset_version, export

pytestmark = pytest.mark.django_db


def run_body(workspace: Workspace, **changes: Any) -> dict[str, Any]:
    version = dataset_version(workspace).typed_id
    return {"model": "digits", "recipe": "image_classifier", "dataset_version": version, **changes}


def errors(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.content
    return [(error["field"], f"{error['detail']} {error['fix']}") for error in answer.json()["errors"]]


def test_a_list_of_all_that_may_be_used(viewer: Caller, workspace: Workspace, other: Workspace) -> None:
    box, lab, theirs = host(), joined(cluster(workspace)), joined(cluster(other))
    gone = host("gone")
    Place.objects.filter(pk=gone.pk).update(gone_at=timezone.now())
    placed(box, other)
    placed(box, workspace)
    shown = {item["name"]: item for item in viewer.get("places").json()["items"]}
    assert set(shown) == {"box", "lab"}
    assert shown["box"]["held"] == {"cpus": 3.0, "memory_bytes": 4 * GIB, "gpus": 0}
    assert shown["box"]["capacity"] == {"cpus": 4.0, "memory_bytes": 8 * GIB, "gpus": 0}
    assert box.host is not None and shown["box"]["host"] == box.host.typed_id and shown["box"]["target"] == "process"
    assert shown["lab"]["held"]["cpus"] == 0 and shown["lab"]["target"] == "kubernetes"
    assert lab.cluster is not None and shown["lab"]["cluster"] == lab.cluster.typed_id
    assert [item["name"] for item in viewer.get("places?target=kubernetes").json()["items"]] == ["lab"]
    assert viewer.get(f"places/{lab.typed_id}").json()["capacity"]["cpus"] == 4.0
    for typed_id in (theirs.typed_id, gone.typed_id, "plx_nonsense"):
        assert viewer.get(f"places/{typed_id}").status_code == 404


def test_a_run_names_its_nodes_and_its_place(developer: Caller, workspace: Workspace) -> None:
    lab = joined(cluster(workspace))
    made = developer.post("training-runs", run_body(workspace, processes=4, nodes=2, place=lab.typed_id))
    assert made.status_code == 201, made.content
    assert (made.json()["nodes"], made.json()["place"]) == (2, lab.typed_id)
    row = TrainingRun.objects.get()
    assert (row.nodes, row.place_id) == (2, lab.pk)
    alone = developer.post("training-runs", run_body(workspace)).json()
    assert (alone["nodes"], alone["place"]) == (1, None)


def test_nodes_that_can_not_be(developer: Caller, workspace: Workspace) -> None:
    box = host()
    for changes, field, words in (
        ({"processes": 2, "nodes": 4}, "nodes", "Use 4 processes"),
        ({"processes": 2, "nodes": 0}, "nodes", "1 to 64"),
        ({"processes": 64, "nodes": 65}, "nodes", "1 to 64"),
        ({"processes": 2, "nodes": 2, "place": box.typed_id}, "place", "box is one host"),
    ):
        ((found, text),) = errors(developer.post("training-runs", run_body(workspace, **changes)))
        assert found == field and words in text


def test_a_place_of_another_workspace_does_not_exist(developer: Caller, workspace: Workspace, other: Workspace) -> None:
    theirs = joined(cluster(other)).typed_id
    unknown = theirs[:-4] + "0000"
    told = [errors(developer.post("training-runs", run_body(workspace, place=place))) for place in (theirs, unknown)]
    assert [found[0][0] for found in told] == ["place", "place"]
    assert told[0][0][1].replace(theirs, "x") == told[1][0][1].replace(unknown, "x")
    body = {"name": "digits", "export": export(workspace).typed_id, "spread": [{"place": theirs}]}
    assert errors(developer.post("deployments", body))[0][0] == "spread.0.place"
    assert not TrainingRun.objects.exists() and not Deployment.objects.exists()


def test_a_script_runs_only_where_it_is_kept_apart(developer: Caller, workspace: Workspace) -> None:
    script = blobs.store_bytes(workspace, b"print(1)").typed_id
    lab, caged, open_one = joined(cluster(workspace)), host("caged", caged=True), host("open", isolation="No cage.")

    def ask(**changes: Any) -> Any:
        return developer.post("training-runs", {"model": "own", "script": script, **changes})

    assert errors(ask(place=lab.typed_id))[0][0] == "place"
    assert errors(ask(place=open_one.typed_id)) == [("script", "No cage. Until then, use a recipe.")]
    assert errors(ask(processes=2, nodes=2))[0][0] == "nodes"
    assert ask(place=caged.typed_id).status_code == 201
    assert ask().status_code == 201
    Host.objects.filter(name="caged").update(caged=False)
    assert errors(ask())[0][0] == "script"


def test_a_deployment_is_spread_over_places(developer: Caller, workspace: Workspace) -> None:
    box, lab = host(), joined(cluster(workspace))
    spread = [
        {"place": box.typed_id, "replicas": 2, "weight": 75},
        {"place": lab.typed_id, "replicas": 1, "weight": 25},
    ]
    body = {"name": "digits", "export": export(workspace).typed_id, "spread": spread}
    made = developer.post("deployments", body)
    assert made.status_code == 201, made.content
    assert (made.json()["spread"], made.json()["replicas"]) == (spread, 3)
    path = f"deployments/{made.json()['id']}"
    ((field, words),) = errors(developer.patch(path, {"replicas": 5}))
    assert field == "replicas" and "2 places" in words
    same = developer.patch(path, {"cpus": 0.5})
    assert (same.json()["spread"], same.json()["replicas"]) == (spread, 3)
    moved = developer.patch(path, {"spread": [{"place": lab.typed_id}]})
    assert moved.json()["spread"] == [{"place": lab.typed_id, "replicas": 1, "weight": 100}]
    assert moved.json()["replicas"] == 1
    assert Event.objects.filter(kind="deployment", message="It stands on lab: 1, weight 100.").count() == 1
    scaled = developer.patch(path, {"replicas": 4}).json()
    assert (scaled["replicas"], scaled["spread"][0]["replicas"]) == (4, 4)
    anywhere = developer.patch(path, {"spread": []}).json()
    assert (anywhere["replicas"], anywhere["spread"]) == (4, [])


def test_a_spread_that_can_not_be(developer: Caller, workspace: Workspace) -> None:
    place = host().typed_id
    body = {"name": "digits", "export": export(workspace).typed_id}
    one = {"place": place}
    for spread, field, words in (
        ([one, {**one, "replicas": 2}], "spread.1.place", "twice"),
        ([{**one, "replicas": 0}], "spread.0.replicas", "1 to 100"),
        ([{**one, "weight": 1001}], "spread.0.weight", "0 to 1,000"),
        ([{**one, "weight": 0}], "spread", "weight above 0"),
        ([{"replicas": 1}], "spread.0.place", "required"),
        ([{**one, "wieght": 1}], "spread.0.wieght", "Did you mean “weight”"),
        ([{"place": "here"}], "spread.0.place", "plx_"),
        ({"place": place}, "spread", "list"),
    ):
        found = errors(developer.post("deployments", {**body, "spread": spread}))
        assert [name for name, _words in found] == [field] and words in found[0][1], spread
    ((field, words),) = errors(developer.post("deployments", {**body, "spread": [one], "replicas": 2}))
    assert field == "replicas" and "1 replica in all, not 2" in words
    assert not Deployment.objects.exists()
