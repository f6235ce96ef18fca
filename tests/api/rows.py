"""Rows as they are once their workloads ended well."""

from __future__ import annotations

from typing import Any

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from apps.exports.models import Export
from apps.exports.services import create_export
from apps.registry import blobs
from apps.registry.models import Blob, Dataset, DatasetVersion, ModelFile, ModelVersion
from apps.registry.services import create_dataset, create_dataset_version, create_model_version, model_named
from apps.training.models import TrainingRun
from apps.training.services import create_training_run

REPORT = {"ok": True, "kind": "image", "items": 100, "splits": {"train": 80, "held_out": 20}, "shape": [1, 8, 8]}


def ended(row: Any, phase: str, **fields: Any) -> Any:
    type(row).objects.filter(pk=row.pk).update(phase=phase, due_at=None, **fields)
    row.refresh_from_db()
    return row


def blob(workspace: Workspace, content: bytes = b"content") -> Blob:
    return blobs.store_bytes(workspace, content)


def dataset_version(workspace: Workspace, name: str = "digits") -> DatasetVersion:
    dataset = Dataset.objects.filter(workspace=workspace, name=name).first()
    dataset = dataset or create_dataset(workspace, WINDLASS, name=name)
    version = create_dataset_version(dataset, WINDLASS, blob=blob(workspace), filename="data.npz")
    return ended(version, "ready", report=REPORT, items=100)  # type: ignore[no-any-return]


def model_version(workspace: Workspace, name: str = "digits") -> ModelVersion:
    model = model_named(workspace, WINDLASS, name)
    version = create_model_version(model, WINDLASS, blob=blob(workspace), filename="model.onnx")
    ModelFile.objects.create(version=version, name="reference.onnx", blob=blob(workspace, b"onnx"))
    return ended(version, "ready")  # type: ignore[no-any-return]


def training_run(workspace: Workspace, name: str = "digits") -> TrainingRun:
    return create_training_run(
        workspace,
        WINDLASS,
        model=model_named(workspace, WINDLASS, name),
        recipe="image_classifier",
        dataset_version=dataset_version(workspace),
    )


def export(workspace: Workspace, phase: str = "succeeded", **fields: Any) -> Export:
    row = create_export(workspace, WINDLASS, model_version=model_version(workspace))
    return ended(row, phase, **fields)  # type: ignore[no-any-return]
