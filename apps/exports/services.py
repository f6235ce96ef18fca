"""Starting exports."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from apps.accounts.models import Workspace
from apps.core.actor import Actor
from apps.core.checks import next_number, range_errors
from apps.core.errors import Conflict, FieldError, Invalid
from apps.core.phases import DELETED
from apps.core.wants import create, model_of
from apps.exports.models import Export
from apps.exports.tolerances import OPTIMISATIONS, complete
from apps.registry.models import DatasetVersion, ModelVersion
from apps.registry.services import hold

MIB = 1024**2


def create_export(
    workspace: Workspace,
    actor: Actor,
    *,
    model_version: ModelVersion,
    optimisation: str = "none",
    tolerances: dict[str, Any] | None = None,
    dataset_version: DatasetVersion | None = None,
    memory_bytes: int = 3 * 1024**3,
) -> Export:
    """Want a model version exported and certified.

    `dataset_version`: whose held-out items the certificate is measured on; the one that the model was trained with
    if not given. Raises Invalid with every value that can't be used, Conflict where the version is being deleted.
    """
    dataset_version = dataset_version or trained_with(model_version)
    errors = range_errors("memory_bytes", memory_bytes, 512 * MIB, 1024**4, "bytes")
    if model_version.phase != "ready":
        detail = f"{model_version.name} is not ready: {model_version.current_phase.word.lower()}."
        errors.append(FieldError("model_version", detail, "Choose one that is ready."))
    if dataset_version is not None and dataset_version.phase != "ready":
        detail = f"{dataset_version.name} is not ready: {dataset_version.current_phase.word.lower()}."
        errors.append(FieldError("dataset_version", detail, "Choose one that is ready."))
    limits: dict[str, float] = {}
    try:
        limits = complete(tolerances or {}, optimisation)
    except ValueError as error:
        errors.append(FieldError.of("tolerances" if optimisation in OPTIMISATIONS else "optimisation", str(error)))
    if errors:
        raise Invalid(*errors)
    with transaction.atomic():
        if dataset_version is not None:
            hold(dataset_version)
        hold(model_version)
        export = Export(
            workspace=workspace,
            model_version=model_version,
            dataset_version=dataset_version,
            number=next_number(Export.objects.filter(model_version=model_version), f"exports|{model_version.pk}"),
            optimisation=optimisation,
            tolerances=limits,
            memory_bytes=memory_bytes,
        )
        return create(export, actor, message="Waits for a place to run.")


def trained_with(version: ModelVersion) -> DatasetVersion | None:
    """The dataset version that the run of a model version learned from, while it is there."""
    model: Any = model_of("training_run")
    run = model.objects.filter(result=version).select_related("dataset_version__dataset").first()
    dataset = run.dataset_version if run else None
    return dataset if dataset is not None and dataset.phase == "ready" else None


def check_export_unused(export: Export) -> None:
    """Raises Conflict while a deployment has a revision of it: it could be rolled back to.

    It is held until the caller's transaction ends, so that no revision of it is made in between.
    """
    Export.objects.select_for_update(no_key=True).get(pk=export.pk)
    revisions: Any = export.revisions
    used = revisions.exclude(deployment__phase=DELETED).select_related("deployment").first()
    if used:
        raise Conflict(
            f"The deployment “{used.deployment.name}” has it as r{used.number}. Delete the deployment first.",
            code="InUse",
        )
