"""Uploads: what a user brings is read by a caged program, never by us; its report decides."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from apps.placements.models import Placement
from apps.placements.services import Draft, Node
from apps.placements.workload import Output, Resources, Workload
from apps.registry.models import Blob, DatasetVersion, ModelFile, ModelVersion
from apps.registry.signatures import signature_from
from workers.engine import Context
from workers.reconcilers.jobs import Ending, Job, blob_input, output_blob, read_json

RESOURCES = Resources(cpus=0.5, memory_bytes=2 * 1024**3)
DEADLINE_SECONDS = 1800


def _draft(row: Any, module: str, options: dict[str, Any], *outcome: Output) -> Draft:
    """`outcome`: the outputs besides the report, without their blobs."""

    def build(name: str, node: Node) -> Workload:
        outputs = [dataclasses.replace(output, blob=output_blob(row)) for output in outcome]
        outputs.append(Output("report.json", output_blob(row), required=False, always=True))
        return Workload(
            name=name,
            kind="job",
            argv=("python", "-m", module),
            env={"WINDLASS_HYPERPARAMETERS": json.dumps({"filename": row.filename, **options})},
            inputs=(blob_input("upload", row.upload),),
            outputs=tuple(outputs),
            resources=RESOURCES,
            deadline_seconds=DEADLINE_SECONDS,
        )

    return Draft("node-0", RESOURCES, build)


def _kept(row: Any, outputs: dict[str, Blob]) -> dict[str, Any]:
    return {"report": read_json(outputs.get("report.json"))}


def dataset_draft(row: DatasetVersion, context: Context) -> Draft:
    return _draft(row, "workers.inspection.dataset", row.options, Output("prepared", "", shape="tree"))


def dataset_finish(row: DatasetVersion, placement: Placement, outputs: dict[str, Blob]) -> Ending:
    report = read_json(outputs.get("report.json"))
    items = report.get("items")
    fields = {
        "report": report,
        "prepared": outputs.get("prepared"),
        "items": items if isinstance(items, int) else None,
    }
    return Ending("ready", "Checked", str(report.get("message", "Checked, and all readable.")), fields)


def model_draft(row: ModelVersion, context: Context) -> Draft:
    return _draft(row, "workers.inspection.model", {}, Output("signature.json", "", required=False))


def model_finish(row: ModelVersion, placement: Placement, outputs: dict[str, Blob]) -> Ending:
    report = read_json(outputs.get("report.json"))
    signature = outputs.get("signature.json")
    # Only a graph says what goes in and out; weights alone are kept as what they are.
    files = {"reference.onnx" if signature else "model.safetensors": row.upload, "signature.json": signature}

    def also() -> None:
        ModelFile.objects.bulk_create(
            [ModelFile(version=row, name=name, blob=blob) for name, blob in files.items() if blob is not None],
            ignore_conflicts=True,
        )

    fields = {"report": report, "signature": signature_from(read_json(signature))}
    return Ending("ready", "Checked", str(report.get("message", "Checked.")), fields, also)


def model_clear(row: ModelVersion) -> None:
    ModelFile.objects.filter(version=row).delete()


# A check's memory and time are fixed: what can be changed is the upload.
WORDS = {
    "OutOfMemory": "Checking it needed more than 2 GiB of memory. Upload it in smaller pieces.",
    "Deadline": "Checking it took longer than 30 minutes. Upload it in smaller pieces.",
}
DATASET_RECONCILER = Job(
    "dataset_version",
    "checking",
    dataset_draft,
    dataset_finish,
    kept=_kept,
    forgets=("upload", "prepared"),
    words=WORDS,
).reconciler()
MODEL_RECONCILER = Job(
    "model_version",
    "checking",
    model_draft,
    model_finish,
    kept=_kept,
    clear=model_clear,
    forgets=("upload",),
    words=WORDS,
).reconciler()
