"""Forms act once, say what is wrong at the field, and keep what was typed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.accounts.models import ApiKey, AuditEntry, Membership, Secret, User, Workspace
from apps.clusters.models import Host
from apps.core.actor import WINDLASS
from apps.deployments.models import Deployment, Revision
from apps.exports.models import Export
from apps.exports.services import create_export
from apps.registry.models import DatasetVersion, ModelVersion
from apps.registry.services import model_named
from apps.training.hyperparameters import parameters
from apps.training.models import TrainingRun
from apps.training.services import create_training_run
from tests.api.rows import blob, ended, model_version
from tests.pages.addresses import ROOT

pytestmark = pytest.mark.django_db


def run_form(busy: SimpleNamespace, **changed: Any) -> dict[str, Any]:
    values = {item.name: "" if item.default is None else item.default for item in parameters("image_classifier")}
    values = {name: value for name, value in values.items() if value is not False}
    values |= {"recipe": "image_classifier", "dataset_version": busy.data.typed_id, "model": "digits"}
    return {
        **values,
        "processes": "2",
        "memory_gib": "1.5",
        "deadline_hours": "0.5",
        "idempotency_key": "k1",
        **changed,
    }


def test_a_run_is_started_once_for_two_presses(developer: Client, busy: SimpleNamespace) -> None:
    before = TrainingRun.objects.count()
    first = developer.post(f"{ROOT}training/new/", run_form(busy))
    again = developer.post(f"{ROOT}training/new/", run_form(busy))
    assert (first.status_code, again.status_code) == (302, 302)
    assert first["Location"] == again["Location"]
    assert TrainingRun.objects.count() == before + 1
    run = TrainingRun.objects.latest("id")
    assert first["Location"] == f"{ROOT}training/{run.typed_id}/"
    assert (run.processes, run.deadline_seconds, run.memory_bytes_per_process) == (2, 1800, 1536 * 1024**2)
    assert run.hyperparameters["steps"] is None and run.created_by.startswith("user:usr_")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("batch_size", "63", "63 does not divide by 2 processes. Use 62 or 64."),
        ("learning_rate", "0,004", "Write the number with a point: 0.004."),
        ("processes", "0", "0 is too small. Use 1 to 64."),
        ("model", "My Model", "“my-model” would work."),
        ("epochs", "x", "This is no whole number. 20 would work."),
        ("deadline_hours", "100000", "100,000 is too large. Use 0.01 to 720 hours."),
        ("memory_gib", "0.01", "0.01 is too small. Use 0.25 to 1,024 GiB."),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    developer: Client, busy: SimpleNamespace, field: str, value: str, words: str
) -> None:
    before = TrainingRun.objects.count()
    answer = developer.post(f"{ROOT}training/new/", run_form(busy, **{field: value}))
    text = answer.content.decode()
    assert answer.status_code == 422 and words in text
    note = text.partition(f'id="id_{field}_note"')[2].partition("</p>")[0]
    assert words in note, note
    assert f'value="{value}"' in text  # what was typed is still there
    assert TrainingRun.objects.count() == before
    assert developer.post(f"{ROOT}training/new/", run_form(busy)).status_code == 302  # the key was not used up


def test_a_clone_keeps_the_script_and_its_hyperparameters(
    developer: Client, busy: SimpleNamespace, workspace: Workspace
) -> None:
    Host.objects.update(caged=True)
    given = {"model": 3, "rates": [0.1, 0.2]}
    run = create_training_run(
        workspace, WINDLASS, model=busy.run.model, script=blob(workspace, b"print(1)"), hyperparameters=given
    )
    address = f"{ROOT}training/new/?clone={run.typed_id}"
    page = developer.get(address).content.decode()
    assert "script.py" in page and 'name="recipe"' not in page
    values = {"dataset_version": "", "model": "digits", "processes": "1", "memory_gib": "1", "deadline_hours": "1"}
    refused = developer.post(address, values | {"hyperparameters": "{steps: 3}", "idempotency_key": "k1"})
    assert refused.status_code == 422 and "This is no JSON." in refused.content.decode()
    hyperparameters = json.dumps(given | {"model": 4})
    answer = developer.post(address, values | {"hyperparameters": hyperparameters, "idempotency_key": "k2"})
    assert answer.status_code == 302, answer.content.decode()
    clone = TrainingRun.objects.latest("id")
    assert (clone.script, clone.recipe, clone.hyperparameters["model"]) == (run.script, "", 4)


def test_a_dataset_is_uploaded_and_a_bad_option_named(developer: Client, workspace: Workspace) -> None:
    def upload(**changed: Any) -> Any:
        file = SimpleUploadedFile("flowers.csv", b"a,b,label\n1,2,x\n")
        values = {"name": "flowers", "file": file, "held_out_percent": "20", "seed": "7", **changed}
        return developer.post(f"{ROOT}datasets/new/", values)

    bad = upload(held_out_percent="120")
    assert bad.status_code == 422 and "Write a number from 0.1 to 99.9" in bad.content.decode()
    made = upload(label_column="label")
    version = DatasetVersion.objects.get()
    assert made["Location"] == f"{ROOT}datasets/{version.dataset.typed_id}/"
    assert version.options == {"held_out_fraction": 0.2, "seed": 7, "label_column": "label"}
    taken = upload()
    assert taken.status_code == 422 and "This name is taken." in taken.content.decode()


def test_a_model_is_brought(developer: Client, workspace: Workspace) -> None:
    file = SimpleUploadedFile("m.onnx", b"onnx")
    made = developer.post(f"{ROOT}models/new/", {"name": "brought", "file": file})
    version = ModelVersion.objects.get()
    assert made["Location"] == f"{ROOT}models/{version.typed_id}/" and version.filename == "m.onnx"


def test_a_version_is_exported(developer: Client, busy: SimpleNamespace) -> None:
    path = f"{ROOT}models/{busy.version.typed_id}/"
    values = {"optimisation": "none", "accuracy_drop_points": "0.5", "agreement_percent": "99.5"}
    answer = developer.post(path, {**values, "max_abs_difference": ""})
    export = Export.objects.latest("id")
    assert answer["Location"] == f"{ROOT}exports/{export.typed_id}/"
    assert export.tolerances == {"accuracy_drop": 0.005, "agreement": 0.995, "max_abs_difference": 1e-4}
    bad = developer.post(path, {**values, "agreement_percent": "many"})
    assert bad.status_code == 422 and "such as 99.5" in bad.content.decode()


def test_a_rejected_export_is_deployed_only_with_a_reason(developer: Client, busy: SimpleNamespace) -> None:
    path = f"{ROOT}exports/{busy.rejected.typed_id}/"
    bare = developer.post(path, {"target": "", "name": "risky", "replicas": "1"})
    assert bare.status_code == 422 and not Deployment.objects.filter(name="risky").exists()
    values = {"target": "", "name": "risky", "replicas": "1", "override_reason": "Speed matters more here."}
    made = developer.post(path, values)
    deployment = Deployment.objects.get(name="risky")
    assert made["Location"] == f"{ROOT}deployments/{deployment.typed_id}/"
    assert AuditEntry.objects.filter(action="deployment.override", target=deployment.typed_id).exists()


def test_a_revision_that_would_change_the_model_is_told(
    developer: Client, busy: SimpleNamespace, workspace: Workspace
) -> None:
    model = model_named(workspace, WINDLASS, "other")
    ModelVersion.objects.filter(pk=busy.export.model_version_id).update(model=model)
    other = create_export(workspace, WINDLASS, model_version=model_version(workspace, "flowers"))
    ended(other, "succeeded")
    page = developer.get(f"{ROOT}exports/{other.typed_id}/").content.decode()
    assert "which serves other so far: another model" in page
    assert "another model" not in developer.get(f"{ROOT}exports/{busy.export.typed_id}/").content.decode()


def test_a_name_that_is_taken_is_told_at_the_name(developer: Client, busy: SimpleNamespace) -> None:
    answer = developer.post(f"{ROOT}exports/{busy.export.typed_id}/", {"target": "", "name": "digits", "replicas": "1"})
    note = answer.content.decode().partition('id="id_name_note"')[2].partition("</p>")[0]
    assert answer.status_code == 422 and "This name is taken." in note


def test_a_revision_is_added_and_rolled_back(developer: Client, busy: SimpleNamespace) -> None:
    deployment = busy.deployment.typed_id
    path = f"{ROOT}exports/{busy.export.typed_id}/"
    developer.post(path, {"target": deployment, "name": "", "replicas": "1", "note": "again"})
    assert Revision.objects.filter(deployment=busy.deployment).count() == 2
    assert (
        "Roll back to r1" not in developer.get(f"{ROOT}deployments/{deployment}/").content.decode()
    )  # r1 serves still
    answer = developer.post(f"{ROOT}deployments/{deployment}/roll-back", {"revision": "1"})
    busy.deployment.refresh_from_db()
    assert answer.status_code == 302 and busy.deployment.revision == 1


def test_a_deployment_is_scaled_and_a_bad_number_told(developer: Client, busy: SimpleNamespace) -> None:
    path = f"{ROOT}deployments/{busy.deployment.typed_id}/"
    assert developer.post(path, {"replicas": "3", "cpus": "0.25", "memory_gib": "0.5"}).status_code == 302
    busy.deployment.refresh_from_db()
    assert (busy.deployment.replicas, busy.deployment.memory_bytes) == (3, 512 * 1024**2)
    bad = developer.post(path, {"replicas": "0", "cpus": "0.25", "memory_gib": "0.5"})
    assert bad.status_code == 422 and "No replica could answer." in bad.content.decode()


def test_deleting_what_serves_needs_its_name(developer: Client, busy: SimpleNamespace) -> None:
    path = f"{ROOT}deployments/{busy.deployment.typed_id}/"
    asked = developer.get(f"{path}?ask=delete").content.decode()
    assert "Type <code>digits</code> to go on" in asked and "<dialog" in asked and " open>" in asked
    refused = developer.post(f"{path}delete", {"confirm": "digit"}, follow=True)
    assert "so nothing was done" in refused.content.decode()
    assert Deployment.objects.get(pk=busy.deployment.pk).goal == "run"
    assert developer.post(f"{path}delete", {"confirm": "digits"})["Location"] == f"{ROOT}deployments/"
    assert Deployment.objects.get(pk=busy.deployment.pk).goal == "delete"


def test_what_is_in_use_is_not_deleted_and_says_by_whom(developer: Client, busy: SimpleNamespace) -> None:
    refused = developer.post(f"{ROOT}exports/{busy.export.typed_id}/delete", follow=True)
    assert "The deployment “digits” has it as r1" in refused.content.decode()
    assert Export.objects.get(pk=busy.export.pk).goal == "run"


def test_a_run_is_cancelled_and_deleted(developer: Client, busy: SimpleNamespace) -> None:
    developer.post(f"{ROOT}training/{busy.running.typed_id}/cancel")
    assert TrainingRun.objects.get(pk=busy.running.pk).goal == "stop"
    late = developer.post(f"{ROOT}training/{busy.failed.typed_id}/cancel", follow=True)
    assert "This has ended already" in late.content.decode()
    developer.post(f"{ROOT}training/{busy.failed.typed_id}/delete")
    assert TrainingRun.objects.get(pk=busy.failed.pk).goal == "delete"


def test_a_key_is_shown_once(admin: Client, workspace: Workspace) -> None:
    values = {"name": "notebook", "role": "developer", "may_predict": "on", "idempotency_key": "once"}
    made = admin.post(f"{ROOT}settings/keys/", values)
    text = made.content.decode()
    assert made.status_code == 201 and "Copy it now." in text
    secret = text.partition("<code>wl_")[2].partition("<")[0]
    assert len(secret) > 40
    assert admin.post(f"{ROOT}settings/keys/", values).status_code == 302  # pressed twice
    key = ApiKey.objects.get(name="notebook")
    assert secret not in admin.get(f"{ROOT}settings/keys/").content.decode()
    admin.post(f"{ROOT}settings/keys/{key.typed_id}/revoke")
    key.refresh_from_db()
    assert key.revoked_at is not None
    nothing = admin.post(f"{ROOT}settings/keys/", {"name": "useless", "role": ""})
    assert nothing.status_code == 422 and "This key could do nothing." in nothing.content.decode()


def test_members_come_change_and_go(admin: Client, workspace: Workspace) -> None:
    made = admin.post(f"{ROOT}settings/members/", {"email": "ada@example.org", "role": "viewer"})
    assert made.status_code == 201 and "/accounts/link/" in made.content.decode()
    member = Membership.objects.get(user__email="ada@example.org")
    path = f"{ROOT}settings/members/{member.user.typed_id}/"
    again = admin.post(f"{path}link")
    assert again.status_code == 201 and "A new link for ada@example.org." in again.content.decode()
    admin.post(f"{path}role", {"role": "developer"})
    member.refresh_from_db()
    assert member.role == "developer"
    member.user.set_password("a long enough one")
    member.user.save()
    refused = admin.post(f"{path}link")
    assert refused.status_code == 409 and "ada@example.org has a password." in refused.content.decode()
    admin.post(f"{path}remove")
    assert not Membership.objects.filter(pk=member.pk).exists()


def test_a_secret_is_never_shown_again(admin: Client, workspace: Workspace) -> None:
    admin.post(f"{ROOT}settings/secrets/", {"name": "hub-token", "value": "very secret"})
    secret = Secret.objects.get()
    assert "very secret" not in secret.sealed
    assert "very secret" not in admin.get(f"{ROOT}settings/secrets/").content.decode()
    bad = admin.post(f"{ROOT}settings/secrets/", {"name": "Hub Token", "value": "x"})
    assert bad.status_code == 422 and "“hub-token” would work." in bad.content.decode()
    admin.post(f"{ROOT}settings/secrets/{secret.typed_id}/delete")
    assert not Secret.objects.exists()


def test_a_host_is_drained_by_staff(admin: Client, busy: SimpleNamespace, tmp_path: Path) -> None:
    """All workspaces use it, so the admin of one is not enough."""
    from apps.clusters.models import Host

    host = Host.objects.get()
    assert "Drain" not in admin.get(f"{ROOT}hosts/").content.decode().replace("Draining", "")
    assert admin.post(f"{ROOT}hosts/{host.typed_id}/drain", {"draining": "1"}).status_code == 403
    host.refresh_from_db()
    assert not host.draining
    User.objects.update(is_staff=True)
    assert "Drain" in admin.get(f"{ROOT}hosts/").content.decode()
    assert admin.post(f"{ROOT}hosts/{host.typed_id}/drain", {"draining": "1"}).status_code == 302
    host.refresh_from_db()
    assert host.draining
