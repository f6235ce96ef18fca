"""The example: pressed once, it goes on by itself, stage by stage, and can be tried again where it failed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import Workspace
from apps.deployments.models import Deployment
from apps.examples.models import Example
from apps.exports.models import Export
from apps.registry.models import ModelVersion
from apps.training.models import TrainingRun
from tests.api import rows
from tests.pages.addresses import ROOT
from tests.pages.conftest import CERTIFICATE, SIGNATURE, host, images, placed
from workers import engine
from workers.reconcilers.examples import RECONCILER

pytestmark = pytest.mark.django_db


def step(example: Example) -> Example:
    Example.objects.filter(pk=example.pk).exclude(phase__in=Example.phases.final).update(
        due_at=example.created_at, lease_expires_at=None
    )
    engine.reconcile("example", example.pk, {"example": RECONCILER})
    example.refresh_from_db()
    return example


@pytest.fixture
def ready(workspace: Workspace, tmp_path: Path) -> Workspace:
    host()
    images(workspace, tmp_path / "tree")
    return workspace


def press(client: Client) -> Example:
    assert client.post(f"{ROOT}example")["Location"] == ROOT
    return Example.objects.latest("id")


def trained(run: TrainingRun) -> ModelVersion:
    version = rows.model_version(run.workspace)
    ModelVersion.objects.filter(pk=version.pk).update(signature=SIGNATURE)
    rows.ended(run, "succeeded", result=version, metrics={"held_out_accuracy": 0.981})
    return version


def test_before_it_there_is_the_invitation(developer: Client, ready: Workspace) -> None:
    text = developer.get(ROOT).content.decode()
    assert "Train a model, export it, deploy it and call it" in text and "Run the example" in text
    assert text.count('class="sample"') == 12 and text.count("Not started") == 4


def test_it_goes_on_by_itself_to_the_end(developer: Client, ready: Workspace) -> None:
    example = press(developer)
    assert press(developer).pk == example.pk  # pressed twice: the one under way
    assert (example.run.processes, TrainingRun.objects.count()) == (2, 1)
    assert step(example).phase == "training" and "at work" in developer.get(ROOT).content.decode()
    trained(example.run)
    assert step(example).phase == "exporting"
    assert step(example).phase == "exporting" and Export.objects.count() == 1
    rows.ended(Export.objects.get(), "succeeded", certificate=CERTIFICATE, signature=SIGNATURE)
    assert step(example).phase == "deploying"
    deployment = Deployment.objects.get()
    assert deployment.name == "digits" and step(example).phase == "deploying"
    Deployment.objects.filter(pk=deployment.pk).update(phase="serving", serving_revision=1, ready_replicas=1)
    placed(deployment, "r1/local", "running")
    assert step(example).phase == "cleaning" and step(example).phase == "succeeded"
    text = developer.get(ROOT).content.decode()
    assert "Your model answers" in text and "98.1%" in text
    assert f"{ROOT}deployments/{deployment.typed_id}/playground/" in text


def test_a_killed_worker_begins_no_stage_twice(developer: Client, ready: Workspace, monkeypatch: Any) -> None:
    example = press(developer)
    trained(example.run)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "apply", lambda *_, **__: False)  # it died between the record and the outcome
        step(example)
    assert (example.phase, Export.objects.count()) == ("training", 1)
    assert step(example).phase == "exporting" and Export.objects.count() == 1


def test_a_failed_stage_says_why_and_is_tried_again(developer: Client, ready: Workspace) -> None:
    example = press(developer)
    trained(example.run)
    step(example)
    rows.ended(Export.objects.get(), "failed", message="It ran out of memory.")
    step(example)
    assert step(example).phase == "failed" and "It ran out of memory." in example.message
    text = developer.get(ROOT).content.decode()
    assert "Try this stage again" in text and "It ran out of memory." in text
    again = press(developer)
    assert again.pk != example.pk and again.run_id == example.run_id and again.export is None
    assert step(again).phase == "exporting" and Export.objects.count() == 2


def test_a_later_example_is_a_new_revision(developer: Client, ready: Workspace, busy: SimpleNamespace) -> None:
    """Of its own deployment; one that somebody else made under the name is left alone."""
    for number in (1, 2):
        example = press(developer)
        trained(example.run)
        step(example)
        step(example)
        example.refresh_from_db()
        rows.ended(example.export, "succeeded", certificate=CERTIFICATE, signature=SIGNATURE)
        step(example)
        assert example.deployment is not None and example.deployment.name == "digits-2"
        example.deployment.refresh_from_db()
        assert example.deployment.revision == number
        Deployment.objects.filter(pk=example.deployment_id).update(phase="serving")
        step(example)
        assert step(example).phase == "succeeded"


def test_it_can_not_start_without_its_data(developer: Client, workspace: Workspace) -> None:
    answer = developer.post(f"{ROOT}example", follow=True)
    assert "The dataset “digits” that the example learns from was deleted." in answer.content.decode()


def test_cancelling_its_run_ends_it(developer: Client, ready: Workspace) -> None:
    example = press(developer)
    rows.ended(example.run, "cancelled")
    step(example)
    assert step(example).phase == "cancelled"
    assert "Try this stage again" in developer.get(ROOT).content.decode()
