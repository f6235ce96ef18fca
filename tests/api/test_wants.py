"""Changing and deleting: ETags, what is in use, and what can not be done any more."""

from __future__ import annotations

import pytest

from apps.accounts.models import AuditEntry, Workspace
from apps.deployments.models import Deployment
from tests.api.conftest import Caller
from tests.api.rows import dataset_version, ended, export, model_version, training_run

pytestmark = pytest.mark.django_db


def test_get_answers_an_etag_that_a_change_compares(developer: Caller, workspace: Workspace) -> None:
    made = developer.post("deployments", {"name": "digits", "export": export(workspace).typed_id})
    path = f"deployments/{made.json()['id']}"
    etag = developer.get(path).headers["ETag"]
    assert etag == '"1.1"' == made.headers["ETag"]
    assert developer.patch(path, {"replicas": 2}, If_Match=etag).status_code == 200
    stale = developer.patch(path, {"replicas": 3}, If_Match=etag)
    assert (stale.status_code, stale.json()["code"]) == (412, "Outdated")
    assert developer.delete(path, If_Match=etag).status_code == 412
    assert developer.post(f"{path}/stop", If_Match=etag).status_code == 412
    assert developer.patch(path, {"replicas": 3}, If_Match="rubbish").status_code == 400
    assert developer.patch(path, {"replicas": 3}, If_Match="*").status_code == 200


def test_a_step_of_a_reconciler_does_not_outdate_an_etag(developer: Caller, workspace: Workspace) -> None:
    made = developer.post("deployments", {"name": "digits", "export": export(workspace).typed_id})
    Deployment.objects.update(version=7)
    path = f"deployments/{made.json()['id']}"
    assert developer.patch(path, {"replicas": 2}, If_Match=made.headers["ETag"]).status_code == 200


def test_delete_is_accepted_and_shown_as_a_goal(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    answer = developer.delete(f"training-runs/{run.typed_id}")
    assert (answer.status_code, answer.json()["goal"], answer.json()["generation"]) == (202, "delete", 2)
    assert AuditEntry.objects.get(action="training_run.delete").target == run.typed_id
    again = developer.delete(f"training-runs/{run.typed_id}")
    assert (again.status_code, again.json()["generation"]) == (202, 2)
    assert developer.post(f"training-runs/{run.typed_id}/cancel").json()["code"] == "Deleting"


def test_what_is_deleted_is_gone(developer: Caller, workspace: Workspace) -> None:
    run = ended(training_run(workspace), "deleted", goal="delete")
    assert developer.get(f"training-runs/{run.typed_id}").status_code == 404
    assert developer.get("training-runs").json()["items"] == []


def test_cancel_and_a_second_cancel_after_the_end(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    assert developer.post(f"training-runs/{run.typed_id}/cancel").json()["goal"] == "stop"
    other = ended(training_run(workspace), "succeeded")
    answer = developer.post(f"training-runs/{other.typed_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "NotPossible")


def test_what_is_in_use_is_not_deleted(developer: Caller, workspace: Workspace) -> None:
    run = training_run(workspace)
    version = run.dataset_version
    refused = developer.delete(f"dataset-versions/{version.typed_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "InUse")
    assert "digits #1" in refused.json()["detail"]
    ended(run, "succeeded")
    assert developer.delete(f"dataset-versions/{version.typed_id}").status_code == 202

    made = export(workspace)
    assert developer.delete(f"model-versions/{made.model_version.typed_id}").status_code == 409
    deployment = developer.post("deployments", {"name": "digits", "export": made.typed_id}).json()["id"]
    refused = developer.delete(f"exports/{made.typed_id}")
    assert refused.status_code == 409 and "“digits”" in refused.json()["detail"]
    ended(Deployment.objects.get(), "deleted", goal="delete")
    assert developer.get(f"deployments/{deployment}").status_code == 404
    assert developer.delete(f"exports/{made.typed_id}").status_code == 202


def test_a_dataset_goes_once_its_versions_are_gone(developer: Caller, workspace: Workspace) -> None:
    version = dataset_version(workspace)
    path = f"datasets/{version.dataset.typed_id}"
    refused = developer.delete(path)
    assert refused.status_code == 409 and "1 version" in refused.json()["detail"]
    ended(version, "deleted", goal="delete")
    assert developer.delete(path).status_code == 204
    assert developer.get(path).status_code == 404


def test_a_dataset_that_a_run_tells_of_keeps_its_name(developer: Caller, workspace: Workspace) -> None:
    run = ended(training_run(workspace), "succeeded")
    ended(run.dataset_version, "deleted", goal="delete")
    answer = developer.delete(f"datasets/{run.dataset_version.dataset.typed_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "InUse")


def test_what_is_being_deleted_can_not_be_used(developer: Caller, workspace: Workspace) -> None:
    version, made, source = dataset_version(workspace), export(workspace), model_version(workspace)
    for row in (version, made, source):
        type(row).objects.filter(pk=row.pk).update(goal="delete", due_at="2026-01-01T00:00:00Z")
    body = {"model": "m", "recipe": "image_classifier", "dataset_version": version.typed_id}
    for answer in (
        developer.post("training-runs", body),
        developer.post("exports", {"model_version": source.typed_id}),
        developer.post("deployments", {"name": "d", "export": made.typed_id}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "Deleting")


def test_a_rejected_export_needs_a_reason_that_is_kept(developer: Caller, workspace: Workspace) -> None:
    made = export(workspace, "rejected", message="98.2% of answers stayed the same, you asked for 99.0%.")
    body = {"name": "digits", "export": made.typed_id}
    refused = developer.post("deployments", body)
    assert (refused.status_code, refused.json()["code"]) == (409, "ExportRejected")
    assert "98.2%" in refused.json()["detail"]
    taken = developer.post("deployments", {**body, "override_reason": "only for a demo"})
    assert taken.status_code == 201
    entry = AuditEntry.objects.get(action="deployment.override")
    assert (entry.target, entry.detail["reason"]) == (taken.json()["id"], "only for a demo")


def test_an_export_that_is_not_ready_can_not_be_served(developer: Caller, workspace: Workspace) -> None:
    made = export(workspace, "failed")
    answer = developer.post("deployments", {"name": "digits", "export": made.typed_id})
    assert (answer.status_code, answer.json()["code"]) == (409, "ExportNotReady")


def test_a_deployments_name_is_free_again_after_its_end(developer: Caller, workspace: Workspace) -> None:
    body = {"name": "digits", "export": export(workspace).typed_id}
    assert developer.post("deployments", body).status_code == 201
    assert developer.post("deployments", body).json()["code"] == "NameTaken"
    ended(Deployment.objects.get(), "deleted", goal="delete")
    assert developer.post("deployments", body).status_code == 201


@pytest.mark.parametrize(
    ("change", "field"), [({"replicas": 0}, "replicas"), ({"replicas": 1000}, "replicas"), ({"cpus": 0}, "cpus")]
)
def test_a_size_that_can_not_be(developer: Caller, workspace: Workspace, change: dict[str, int], field: str) -> None:
    made = developer.post("deployments", {"name": "digits", "export": export(workspace).typed_id}).json()
    answer = developer.patch(f"deployments/{made['id']}", change)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == field
    assert answer.json()["errors"][0]["fix"]


def test_a_roll_back_to_nothing_names_what_there_is(developer: Caller, workspace: Workspace) -> None:
    made = developer.post("deployments", {"name": "digits", "export": export(workspace).typed_id}).json()
    answer = developer.post(f"deployments/{made['id']}/roll-back", {"revision": 7})
    assert answer.status_code == 422 and answer.json()["errors"][0]["fix"] == "There are: 1."
