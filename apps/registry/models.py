"""Datasets, models and their versions; and blobs, where all bytes lie."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now

from apps.accounts.models import Workspace
from apps.core.models import Managed, Typed, managed_constraint, managed_index
from apps.registry.phases import DATASET_VERSION_PHASES, MODEL_VERSION_PHASES


class Blob(Typed):
    """Content, addressed by (workspace, sha256), stored as sealed parts under this row's id.

    A blob of a running workload's output has no sha256 until it is complete. `data_key` is sealed; see `parts.py`.
    """

    prefix = "blob"

    class State(models.TextChoices):
        UPLOADING = "uploading", "Uploading"
        READY = "ready", "Ready"

    workspace = models.ForeignKey(Workspace, models.PROTECT, related_name="+")
    sha256 = models.CharField(max_length=64, null=True, blank=True)
    size_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    media_type = models.CharField(max_length=100, default="application/octet-stream")
    state = models.CharField(max_length=12, choices=State.choices, default=State.UPLOADING)
    data_key = models.TextField(editable=False)
    touched_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "sha256"], name="blob_content")]
        indexes = [models.Index(fields=["touched_at"], name="blob_touched")]

    def __str__(self) -> str:
        return self.typed_id


class BlobPart(models.Model):
    """A part of an upload that has arrived whole."""

    blob = models.ForeignKey(Blob, models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    size_bytes = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["blob", "number"], name="blob_part")]

    def __str__(self) -> str:
        return f"{self.blob} part {self.number}"


class BlobGrave(models.Model):
    """A blob whose row is gone and whose parts are still to be removed from storage.

    The row's delete and this insert are one transaction; a reference made meanwhile makes it fail as a whole. The
    same content uploaded again gets another id, so removing these parts can't take it.
    """

    blob_id = models.UUIDField(primary_key=True)
    made_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.blob_id)


class Dataset(Typed):
    prefix = "dat"

    workspace = models.ForeignKey(Workspace, models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=63)
    description = models.TextField(default="", blank=True)
    created_by = models.CharField(max_length=120, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="dataset_name")]

    def __str__(self) -> str:
        return self.name


class DatasetVersion(Managed):
    """An upload, checked and prepared. Immutable once ready.

    `options`: held_out_fraction, seed, label_column, image_size, skip_bad_rows. `report`: what the check found.
    """

    kind = "dataset_version"
    prefix = "dsv"
    title = "dataset version"
    phases = DATASET_VERSION_PHASES

    dataset = models.ForeignKey(Dataset, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    filename = models.CharField(max_length=200)
    upload = models.ForeignKey(Blob, models.PROTECT, null=True, related_name="+")
    options = models.JSONField(default=dict)
    attempt = models.PositiveIntegerField(default=0)
    fruitless_attempts = models.PositiveSmallIntegerField(default=0)
    prepared = models.ForeignKey(Blob, models.PROTECT, null=True, related_name="+")
    report = models.JSONField(default=dict)
    items = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            managed_constraint("dataset_version", DATASET_VERSION_PHASES),
            models.UniqueConstraint(fields=["dataset", "number"], name="dataset_version_number"),
        ]
        indexes = [managed_index("dataset_version")]

    @property
    def name(self) -> str:
        return f"{self.dataset.name} v{self.number}"


class Model(Typed):
    prefix = "mdl"

    workspace = models.ForeignKey(Workspace, models.PROTECT, related_name="models")
    name = models.CharField(max_length=63)
    description = models.TextField(default="", blank=True)
    created_by = models.CharField(max_length=120, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="model_name")]

    def __str__(self) -> str:
        return self.name


class ModelVersion(Managed):
    """What a run made, or somebody uploaded. Immutable once ready.

    `signature`: inputs and outputs by name, datatype and shape; `metrics`: final figures, by name.
    """

    kind = "model_version"
    prefix = "ver"
    title = "model version"
    phases = MODEL_VERSION_PHASES

    model = models.ForeignKey(Model, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    filename = models.CharField(max_length=200, default="", blank=True)
    upload = models.ForeignKey(Blob, models.PROTECT, null=True, related_name="+")
    attempt = models.PositiveIntegerField(default=0)
    fruitless_attempts = models.PositiveSmallIntegerField(default=0)
    signature = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    report = models.JSONField(default=dict)

    class Meta:
        constraints = [
            managed_constraint("model_version", MODEL_VERSION_PHASES),
            models.UniqueConstraint(fields=["model", "number"], name="model_version_number"),
        ]
        indexes = [managed_index("model_version")]

    @property
    def name(self) -> str:
        return f"{self.model.name} v{self.number}"

    def file(self, name: str) -> Blob | None:
        found: Any = self.files.filter(name=name).select_related("blob").first()
        return found.blob if found else None


class ModelFile(models.Model):
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="files")
    name = models.CharField(max_length=100)
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "name"], name="model_file_name")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
