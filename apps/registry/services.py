"""Datasets, models and their versions: making them, uploading into them, and letting them go."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from apps.accounts import audit
from apps.accounts.models import Workspace
from apps.core.actor import Actor
from apps.core.checks import name_errors, next_number
from apps.core.errors import Conflict, FieldError, Invalid
from apps.core.models import Goal
from apps.core.phases import DELETED
from apps.core.wants import create, model_of
from apps.registry.models import Blob, Dataset, DatasetVersion, Model, ModelVersion

DATASET_OPTIONS = ("held_out_fraction", "seed", "label_column", "image_size", "skip_bad_rows")


def create_dataset(workspace: Workspace, actor: Actor, *, name: str, description: str = "") -> Dataset:
    """Raises Invalid, Conflict for a name that is taken."""
    return _named(Dataset(workspace=workspace, name=name, description=description, created_by=actor.id))


def create_model(workspace: Workspace, actor: Actor, *, name: str, description: str = "") -> Model:
    """Raises Invalid, Conflict for a name that is taken."""
    return _named(Model(workspace=workspace, name=name, description=description, created_by=actor.id))


def model_named(workspace: Workspace, actor: Actor, name: str) -> Model:
    """The model of this name, made if there is none. Raises Invalid."""
    found = Model.objects.filter(workspace=workspace, name=name).first()
    if found:
        return found
    if errors := name_errors("model", name):
        raise Invalid(*errors)
    Model.objects.bulk_create(
        [Model(workspace=workspace, name=name, created_by=actor.id)],
        ignore_conflicts=True,  # somebody may be faster
    )
    return Model.objects.get(workspace=workspace, name=name)


def _named(row: Any) -> Any:
    if errors := name_errors("name", row.name):
        raise Invalid(*errors)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        noun = row._meta.verbose_name
        fix = f"Upload a new version of it, or give the new {noun} another name."
        message = f"There is a {noun} “{row.name}” already. {fix}"
        raise Conflict(message, code="NameTaken", errors=[FieldError("name", "This name is taken.", fix)]) from error
    row.refresh_from_db(fields=["created_at"])
    return row


def describe(row: Dataset | Model, description: str) -> None:
    row.description = description
    row.save(update_fields=["description"])


def create_dataset_version(
    dataset: Dataset, actor: Actor, *, blob: Blob, filename: str, options: dict[str, Any] | None = None
) -> DatasetVersion:
    """Have an upload checked and prepared. Raises Invalid."""
    options = {name: value for name, value in (options or {}).items() if value is not None}
    errors = [*_upload_errors(blob, filename), *dataset_option_errors(options)]
    if errors:
        raise Invalid(*errors)
    version = DatasetVersion(
        workspace_id=dataset.workspace_id, dataset=dataset, filename=filename, upload=blob, options=options
    )
    return _numbered(version, dataset, actor)


def create_model_version(model: Model, actor: Actor, *, blob: Blob, filename: str) -> ModelVersion:
    """Have an uploaded ONNX model checked. Raises Invalid."""
    errors = _upload_errors(blob, filename)
    if errors:
        raise Invalid(*errors)
    version = ModelVersion(workspace_id=model.workspace_id, model=model, filename=filename, upload=blob)
    return _numbered(version, model, actor)


def _numbered(version: Any, parent: Dataset | Model, actor: Actor) -> Any:
    """The parent stays locked until the version is there, so that each gets its own number."""
    with transaction.atomic():
        type(parent)._default_manager.select_for_update(no_key=True).get(pk=parent.pk)
        version.number = next_number(parent.versions.all(), f"versions|{parent.pk}")
        return create(version, actor, reason="Uploaded", message=f"{version.filename} is checked next.")


def _upload_errors(blob: Blob, filename: str) -> list[FieldError]:
    errors = []
    if blob.state != Blob.State.READY:
        errors.append(FieldError("blob", f"{blob.typed_id} is not uploaded completely.", "Send what is missing first."))
    if not 1 <= len(filename) <= 200 or not filename.isprintable():
        errors.append(FieldError("filename", "A file name has 1 to 200 characters.", "“data.npz” would work."))
    return errors


def dataset_option_errors(options: dict[str, Any]) -> list[FieldError]:
    """What a user may choose about reading a dataset; the program that reads it checks again."""
    errors = []
    fraction, seed, size = options.get("held_out_fraction", 0.2), options.get("seed", 7), options.get("image_size", 1)
    for name in sorted(set(options) - set(DATASET_OPTIONS)):
        fix = f"There are: {', '.join(DATASET_OPTIONS)}."
        errors.append(FieldError(f"options.{name}", f"There is no option “{name[:60]}”.", fix))
    if not _is(fraction, int, float) or not 0 < fraction < 1:
        detail = f"It must lie between 0 and 1, and is {fraction!r}."
        errors.append(FieldError("options.held_out_fraction", detail, "0.2 would work."))
    if not _is(seed, int) or seed < 0:
        detail = f"It must be a whole number of at least 0, and is {seed!r}."
        errors.append(FieldError("options.seed", detail, "7 would work."))
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(_is(side, int) and 1 <= side <= 4096 for side in sides):
        detail = f"It must be 1 to 4096 pixels, or [height, width], and is {size!r}."
        errors.append(FieldError("options.image_size", detail, "64 would work."))
    if not isinstance(options.get("label_column", ""), str):
        errors.append(FieldError("options.label_column", "It must be the name of a column.", "“label” would work."))
    if not isinstance(options.get("skip_bad_rows", False), bool):
        errors.append(FieldError("options.skip_bad_rows", "It must be true or false.", "true would work."))
    return errors


def _is(value: object, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


def hold(version: DatasetVersion | ModelVersion) -> None:
    """Nobody can begin to delete it until the caller's transaction ends. Raises Conflict if somebody has.

    Of several hold dataset versions first, in the order in which everybody locks.
    """
    held = type(version)._default_manager.select_for_update(no_key=True).get(pk=version.pk)
    if held.goal == Goal.DELETE:
        raise Conflict(f"{version.name} is being deleted. Choose another version.", code="Deleting")


# --- letting go ---------------------------------------------------------------------------------------------------


def check_dataset_version_unused(version: DatasetVersion) -> None:
    """Raises Conflict while a run or an export still reads it. It is held until the caller's transaction ends."""
    DatasetVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    for kind, noun in (("training_run", "Training run"), ("export", "Export")):
        model: Any = model_of(kind)
        needed = model.objects.filter(dataset_version=version).exclude(phase__in=model.phases.final)
        if row := needed.first():
            raise Conflict(f"{noun} {row.label} still reads it. Cancel it, or wait for its end.", code="InUse")


def check_model_version_unused(version: ModelVersion) -> None:
    """Raises Conflict while exports of it are kept. It is held until the caller's transaction ends."""
    ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    exports: Any = model_of("export")._default_manager
    if row := exports.filter(model_version=version).exclude(phase=DELETED).first():
        raise Conflict(f"{row.label} was made of it. Delete that export first.", code="InUse")


def remove_container(row: Dataset | Model, actor: Actor) -> None:
    """Remove a dataset or a model that has no versions any more. Raises Conflict."""
    noun = row._meta.verbose_name
    versions: Any = row.versions
    with transaction.atomic():
        left = versions.exclude(phase=DELETED).count()
        if left:
            words = "1 version" if left == 1 else f"{left} versions"
            raise Conflict(f"The {noun} “{row.name}” has {words}. Delete them first.", code="InUse")
        try:
            with transaction.atomic():
                versions.all().delete()
                audit.record(actor, f"{noun}.delete", row.typed_id, {"name": row.name}, row.workspace)
                row.delete()
        except ProtectedError as error:
            message = f"Training runs or exports tell of the {noun} “{row.name}”, so its name is kept for them."
            raise Conflict(message, code="InUse") from error
