"""Exports: one job that exports, optimises and measures; the certificate decides how it ends."""

from __future__ import annotations

import json
from typing import Any

from apps.exports.models import Export
from apps.placements import streams
from apps.placements.models import Placement
from apps.placements.services import Draft, Node
from apps.placements.workload import Output, Resources, Workload
from apps.registry.models import Blob
from workers.engine import Context
from workers.reconcilers.jobs import Ending, Job, blob_input, output_blob, read_json

INPUT_FILES = ("model.safetensors", "config.json", "reference.onnx", "signature.json")
DEADLINE_SECONDS = 3600


def draft(export: Export, context: Context) -> Draft:
    resources = Resources(cpus=1.0, memory_bytes=export.memory_bytes)

    def build(name: str, node: Node) -> Workload:
        files = {item.name: item.blob for item in export.model_version.files.select_related("blob")}
        inputs = [blob_input(file, files[file]) for file in INPUT_FILES if file in files]
        dataset = export.dataset_version
        if dataset is not None and dataset.prepared is not None:
            inputs.append(blob_input("data", dataset.prepared, tree=True))
        settings = {"optimisation": export.optimisation, "tolerances": export.tolerances}
        return Workload(
            name=name,
            kind="job",
            argv=("python", "-m", "workers.export.onnx"),
            env={"WINDLASS_HYPERPARAMETERS": json.dumps(settings)},
            inputs=tuple(inputs),
            outputs=(Output("model.onnx", output_blob(export)), Output("certificate.json", output_blob(export))),
            resources=resources,
            deadline_seconds=DEADLINE_SECONDS,
        )

    return Draft("node-0", resources, build)


def follow(export: Export, placement: Placement) -> dict[str, Any]:
    content, _begins = streams.read(placement, "metrics-0", 0, 1024**2)
    lines, _consumed = streams.json_lines(content)
    last = lines[-1] if lines else {}
    step, total = last.get("step"), last.get("total_steps")
    if not isinstance(step, int) or not isinstance(total, int) or total <= 0:
        return {}
    return {"progress": min(1.0, step / total), "message": f"Step {step} of {total}: exporting, then measuring."}


def finish(export: Export, placement: Placement, outputs: dict[str, Blob]) -> Ending:
    certificate = read_json(outputs.get("certificate.json"))
    fields = {
        "certificate": certificate,
        "signature": export.model_version.signature,
        "file": outputs.get("model.onnx"),
        "signature_file": export.model_version.file("signature.json"),
    }
    if certificate.get("verdict") == "passed":
        words = certificate.get("why") or "All figures are inside their tolerances."
        return Ending("succeeded", "Certified", words, fields)
    if certificate.get("verdict") == "rejected":
        return Ending("rejected", "OutsideTolerance", str(certificate.get("why", "")), fields)
    return Ending("failed", "NoCertificate", "The export program left no certificate that can be read.", {})


RECONCILER = Job("export", "exporting", draft, finish, follow=follow, forgets=("file", "signature_file")).reconciler()
