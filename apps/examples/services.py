"""Starting the example, and what each of its stages makes of the one before."""

from __future__ import annotations

from django.db import connection, transaction

from apps.accounts.models import Workspace
from apps.core.actor import Actor
from apps.core.errors import Conflict
from apps.core.models import Goal
from apps.core.phases import DELETED
from apps.core.wants import create, want
from apps.deployments.models import Deployment
from apps.deployments.services import create_deployment, create_revision
from apps.examples.models import Example
from apps.exports.models import Export
from apps.exports.services import create_export
from apps.registry.models import DatasetVersion
from apps.registry.services import model_named
from apps.training.models import TrainingRun
from apps.training.services import create_training_run

DATASET = "digits"
NAME = "digits"
RECIPE = "image_classifier"
PROCESSES = 2


def latest(workspace: Workspace) -> Example | None:
    select = ("run__result", "run__dataset_version__dataset", "export__model_version__model", "deployment__workspace")
    return Example.objects.filter(workspace=workspace).select_related(*select).order_by("-pk").first()


def dataset(workspace: Workspace) -> DatasetVersion | None:
    """The example's data: the newest version of `digits`, whatever its phase."""
    versions = DatasetVersion.objects.filter(workspace=workspace, dataset__name=DATASET).exclude(phase=DELETED)
    return versions.select_related("dataset", "prepared").order_by("-number").first()


def start(workspace: Workspace, actor: Actor) -> Example:
    """The example from its first stage that has not ended well yet; the one under way, if there is one.

    Raises Conflict while the dataset is not ready, or is gone.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"example|{workspace.pk}"])
        before = latest(workspace)
        if before and not before.is_final:
            return before
        again = before if before and before.phase != "succeeded" and trained(before.run) else None
        example = Example(
            workspace=workspace,
            run=again.run if again else _new_run(workspace, actor),
            export=again.export if again and again.export and again.export.phase == "succeeded" else None,
        )
        return create(example, actor, reason="Started", message="The example was started.")


def trained(run: TrainingRun) -> bool:
    return run.phase == "succeeded" and run.result is not None and run.result.phase == "ready"


def _new_run(workspace: Workspace, actor: Actor) -> TrainingRun:
    data = dataset(workspace)
    if data is None:
        fix = "Upload a dataset, and start a training run with it."
        raise Conflict(f"The dataset “{DATASET}” that the example learns from was deleted. {fix}", code="NoDataset")
    if data.phase != "ready":
        word = data.current_phase.word.lower()
        raise Conflict(f"{data.name} is not ready yet: {word}. Try again in a moment.", code="NotReady")
    model = model_named(workspace, actor, NAME)
    return create_training_run(workspace, actor, model=model, recipe=RECIPE, dataset_version=data, processes=PROCESSES)


def export(example: Example) -> Export:
    """The next stage's row, made and noted in the caller's transaction."""
    assert example.run.result is not None
    made = create_export(
        example.workspace,
        _actor(example),
        model_version=example.run.result,
        dataset_version=example.run.dataset_version,
    )
    Example.objects.filter(pk=example.pk).update(export=made)
    return made


def deploy(example: Example) -> Deployment:
    """A deployment of its own, or a new revision of the one that an earlier example made."""
    assert example.export is not None
    actor = _actor(example)
    earlier = (
        Example.objects.filter(workspace=example.workspace, deployment__isnull=False)
        .exclude(deployment__phase__in=[DELETED, "failed"])
        .exclude(deployment__goal=Goal.DELETE)
        .select_related("deployment")
        .order_by("-pk")
        .first()
    )
    if earlier and earlier.deployment:
        deployment = earlier.deployment
        create_revision(deployment, actor, export=example.export, note="the example")
        want(deployment, actor, goal=Goal.RUN)
    else:
        name = _free_name(example.workspace)
        deployment = create_deployment(example.workspace, actor, name=name, export=example.export, note="the example")
    Example.objects.filter(pk=example.pk).update(deployment=deployment)
    return deployment


def _free_name(workspace: Workspace) -> str:
    taken = set(
        Deployment.objects.filter(workspace=workspace, name__startswith=NAME)
        .exclude(phase=DELETED)
        .values_list("name", flat=True)
    )
    names = (NAME, *(f"{NAME}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def _actor(example: Example) -> Actor:
    return Actor(example.created_by, "The example")
