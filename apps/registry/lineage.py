"""Where a model version comes from and where it goes: its data and run, its exports, its deployments."""

from __future__ import annotations

from typing import Any

from apps.core.page import Pill
from apps.core.pages import rows
from apps.core.phases import DELETED
from apps.deployments.models import Deployment, Revision
from apps.exports.models import Export
from apps.exports.tolerances import OPTIMISATIONS
from apps.registry.models import ModelVersion
from apps.training.models import TrainingRun

FIGURE = "held_out_accuracy"


def in_service(workspace: Any, **chosen: Any) -> dict[Any, list[tuple[Deployment, Revision]]]:
    """By model version: the deployments whose wanted revision is an export of it."""
    found: dict[Any, list[tuple[Deployment, Revision]]] = {}
    revisions = Revision.objects.filter(deployment__workspace=workspace, **chosen).exclude(deployment__phase=DELETED)
    for revision in revisions.select_related("deployment", "export"):
        if revision.number == revision.deployment.revision:
            found.setdefault(revision.export.model_version_id, []).append((revision.deployment, revision))
    return found


def lineage(workspace: Any, root: str, versions: list[ModelVersion]) -> list[dict[str, Any]]:
    """Where each version comes from and where it goes: a run and its data, exports, deployments."""
    keys = [version.pk for version in versions]
    runs = {
        run.result_id: run
        for run in TrainingRun.objects.filter(result__in=keys).select_related("dataset_version__dataset")
    }
    exports: dict[Any, list[Export]] = {}
    for export in (
        Export.objects.filter(model_version__in=keys).exclude(phase=DELETED).select_related("file").order_by("pk")
    ):
        exports.setdefault(export.model_version_id, []).append(export)
    serving = in_service(workspace, export__model_version__in=keys)
    return [
        branch(root, version, runs.get(version.pk), exports.get(version.pk, []), serving.get(version.pk, []))
        for version in versions
    ]


def branch(
    root: str,
    version: ModelVersion,
    run: TrainingRun | None,
    exports: list[Export],
    serving: list[tuple[Deployment, Revision]],
) -> dict[str, Any]:
    run = run if run and run.phase != DELETED else None
    deployments: list[dict[str, Any]] = [
        {"row": row, "revision": revision, "url": rows.url(root, row), "pill": rows.pill(row)}
        for row, revision in serving
    ]
    answers = any(entry["row"].phase in {"serving", "updating", "degraded"} for entry in deployments)
    data = run.dataset_version if run else None
    return {
        "version": version,
        "url": rows.url(root, version),
        "pill": Pill("ok", "In service") if answers else rows.pill(version),
        "figure": version.metrics.get(FIGURE),
        "run": run,
        "run_url": rows.url(root, run) if run else "",
        "data": data,
        "data_url": rows.url(root, data) if data and data.phase != DELETED else "",
        "exports": [
            {
                "row": export,
                "title": OPTIMISATIONS.get(export.optimisation, export.optimisation),
                "url": rows.url(root, export),
                "pill": rows.pill(export),
                "deployments": [entry for entry in deployments if entry["revision"].export_id == export.pk],
            }
            for export in exports
        ],
        "deployments": deployments,
    }
