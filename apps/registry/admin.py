"""Datasets, models, their versions and blobs in the console."""

from __future__ import annotations

from django.contrib import admin

from apps.core.admin.base import ConsoleAdmin, LargeTableAdmin, stamp
from apps.core.admin.managed import ManagedAdmin
from apps.core.admin.operations import CANCEL, delete
from apps.core.figures import file_size, short_digest
from apps.registry.models import Blob, BlobGrave, BlobPart, Dataset, DatasetVersion, Model, ModelFile, ModelVersion
from apps.registry.services import check_dataset_version_unused, check_model_version_unused


@admin.register(Dataset, Model)
class NamedAdmin(ConsoleAdmin):
    list_display = ("short_id", "name", "workspace", "description", "created_at")
    list_select_related = ("workspace",)
    list_filter = ("workspace",)
    ordering = ("-pk",)
    search_fields = ("name",)


@admin.register(DatasetVersion)
class DatasetVersionAdmin(ManagedAdmin):
    more = (CANCEL, delete(check_dataset_version_unused))
    search_ids = {"dat": "dataset"}


@admin.register(ModelVersion)
class ModelVersionAdmin(ManagedAdmin):
    more = (CANCEL, delete(check_model_version_unused))
    search_ids = {"mdl": "model"}


@admin.register(ModelFile)
class ModelFileAdmin(ConsoleAdmin):
    search_ids = {"ver": "version", "blob": "blob"}
    search_fields = ("name",)
    list_display = ("version", "name", "blob")
    list_select_related = ("version", "blob")
    ordering = ("-pk",)


@admin.register(Blob)
class BlobAdmin(LargeTableAdmin):
    """What content there is. Its key opens it, so that is neither shown nor read here."""

    hidden = ("data_key",)
    search_ids = {"blob": "pk"}
    search_fields = ("sha256",)
    search_help_text = "The whole id of a blob (blob_…)."
    list_display = ("short_id", "workspace", "state", "size", "media_type", "digest", stamp("touched_at"))
    list_select_related = ("workspace",)
    list_filter = ("state", "workspace")

    @admin.display(description="size")
    def size(self, blob: Blob) -> str:
        return file_size(blob.size_bytes)

    @admin.display(description="sha256")
    def digest(self, blob: Blob) -> str:
        return short_digest(blob.sha256 or "")


@admin.register(BlobPart)
class BlobPartAdmin(LargeTableAdmin):
    search_ids = {"blob": "blob"}
    search_fields = ("blob",)
    search_help_text = "The whole id of a blob (blob_…)."
    list_display = ("blob", "number", "size_bytes")
    list_select_related = ("blob",)


@admin.register(BlobGrave)
class BlobGraveAdmin(ConsoleAdmin):
    list_display = ("blob_id", "made_at")
    ordering = ("-made_at",)
