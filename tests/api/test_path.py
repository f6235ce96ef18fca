"""The path over the API, as `make demo` takes it: upload, train, export, deploy."""

from __future__ import annotations

import hashlib

import pytest

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from apps.core.models import Event
from apps.registry.models import DatasetVersion
from tests.api.conftest import Caller
from tests.api.rows import REPORT, dataset_version, ended, export, model_version

pytestmark = pytest.mark.django_db


def test_a_dataset_is_uploaded_and_checked_next(developer: Caller) -> None:
    content = b"0123456789" * 1000
    begun = developer.post("blobs", {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)})
    assert begun.status_code == 201 and begun.json()["missing_parts"] == [0]
    blob = begun.json()["id"]
    assert (
        developer("PUT", f"blobs/{blob}/parts/0", content, Content_Type="application/octet-stream").status_code == 200
    )
    assert developer.post(f"blobs/{blob}/complete").json()["state"] == "ready"
    dataset = developer.post("datasets", {"name": "flowers"}).json()["id"]
    made = developer.post(
        f"datasets/{dataset}/versions", {"blob": blob, "filename": "f.npz", "options": {"held_out_fraction": 0.1}}
    )
    assert made.status_code == 201, made.json()
    answer = made.json()
    assert (answer["phase"], answer["word"], answer["number"]) == ("queued", "Queued", 1)
    assert developer.get(f"dataset-versions/{answer['id']}").json()["upload"] == blob
    assert [item["id"] for item in developer.get(f"datasets/{dataset}/versions").json()["items"]] == [answer["id"]]


def test_a_run_is_wanted_with_the_recipes_defaults(developer: Caller, workspace: Workspace) -> None:
    version = dataset_version(workspace)
    made = developer.post(
        "training-runs",
        {
            "model": "digits",
            "recipe": "image_classifier",
            "dataset_version": version.typed_id,
            "processes": 2,
            "hyperparameters": {"epochs": 3},
        },
    )
    assert made.status_code == 201, made.json()
    run = made.json()
    assert (run["phase"], run["label"], run["processes"]) == ("queued", "digits #1", 2)
    assert run["hyperparameters"]["epochs"] == 3 and run["hyperparameters"]["batch_size"] == 64
    assert "recipe" not in run["hyperparameters"]
    event = Event.objects.get(kind="training_run")
    assert event.actor.startswith("key:key_") and event.request_id == made["X-Request-Id"]


def test_an_export_takes_the_dataset_of_the_training(developer: Caller, workspace: Workspace) -> None:
    from apps.training.models import TrainingRun
    from tests.api.rows import training_run

    run, version = training_run(workspace), model_version(workspace)
    ended(run, "succeeded", result=version)
    made = developer.post("exports", {"model_version": version.typed_id, "tolerances": {"agreement": 0.5}})
    assert made.status_code == 201, made.json()
    answer = made.json()
    assert answer["dataset_version"] == TrainingRun.objects.get().dataset_version.typed_id
    assert answer["tolerances"]["agreement"] == 0.5 and "accuracy_drop" in answer["tolerances"]
    assert developer.get(f"exports/{answer['id']}/certificate").status_code == 404


def test_a_deployment_is_wanted_moved_and_rolled_back(developer: Caller, workspace: Workspace) -> None:
    first, second = export(workspace), export(workspace)
    made = developer.post("deployments", {"name": "digits", "export": first.typed_id})
    assert made.status_code == 201, made.json()
    deployment = made.json()
    assert deployment["url"].endswith("/team/digits") and deployment["revision"] == 1
    moved = developer.post(f"deployments/{deployment['id']}/revisions", {"export": second.typed_id, "note": "better"})
    assert moved.status_code == 201 and moved.json()["number"] == 2
    assert developer.get(f"deployments/{deployment['id']}").json()["revision"] == 2
    back = developer.post(f"deployments/{deployment['id']}/roll-back", {"revision": 1})
    assert back.status_code == 202 and back.json()["revision"] == 1
    numbers = [item["number"] for item in developer.get(f"deployments/{deployment['id']}/revisions").json()["items"]]
    assert numbers == [2, 1]
    assert developer.patch(f"deployments/{deployment['id']}", {"replicas": 3}).json()["replicas"] == 3
    assert developer.post(f"deployments/{deployment['id']}/stop").json()["goal"] == "stop"
    assert developer.post(f"deployments/{deployment['id']}/start").json()["goal"] == "run"


def test_a_prediction_only_key_has_no_way_into_the_api(as_role: object, workspace: Workspace) -> None:
    caller: Caller = as_role("")  # type: ignore[operator]
    answer = caller.get("deployments")
    assert (answer.status_code, answer.json()["code"]) == (403, "PredictOnly")


def test_a_dataset_that_is_not_ready_can_not_be_learned_from(developer: Caller, workspace: Workspace) -> None:
    version = ended(dataset_version(workspace), "failed", message="data.npz is no dataset.")
    body = {"model": "digits", "recipe": "image_classifier", "dataset_version": version.typed_id}
    answer = developer.post("training-runs", body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "dataset_version" and "failed" in error["detail"] and error["fix"]
    assert DatasetVersion.objects.get().report == REPORT and WINDLASS.id == "windlass"
