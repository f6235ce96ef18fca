"""Training runs: torchrun as a job, its metrics as rows, its outputs as a model version."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.db.models import Max
from django.db.models.functions import Now

from apps.core.actor import WINDLASS
from apps.core.wants import create
from apps.placements import streams
from apps.placements.models import Placement
from apps.placements.services import Draft, Node
from apps.placements.workload import Output, Resources, Workload
from apps.registry.models import Blob, ModelFile, ModelVersion
from apps.registry.signatures import figures_from, is_figure, signature_from
from apps.training.models import MetricPoint, TrainingRun
from workers.engine import Context
from workers.reconcilers.jobs import Ending, Job, blob_input, output_blob, read_json

MODEL_FILES = ("model.safetensors", "config.json", "reference.onnx", "signature.json", "metrics.json")
RESERVED = frozenset({"step", "total_steps", "time"})
READ_BYTES = 1024**2
LARGEST_STEP = 2**63 - 1
MOST_METRICS = 200
CPUS_PER_PROCESS = 0.5
ELASTIC_RESTARTS = 3
GRACE_SECONDS = 30
RENDEZVOUS_PORT = 29400


def draft(run: TrainingRun, context: Context) -> Draft:
    each = run.processes // run.nodes
    resources = Resources(cpus=CPUS_PER_PROCESS, memory_bytes=run.memory_bytes_per_process).times(each)
    script = run.script

    def build(name: str, node: Node) -> Workload:
        inputs = []
        dataset = run.dataset_version
        if dataset is not None and dataset.prepared is not None:
            inputs.append(blob_input("data", dataset.prepared, tree=True))
        if run.checkpoint is not None:
            inputs.append(blob_input("checkpoint", run.checkpoint, tree=True))
        if script is not None:
            inputs.append(blob_input("script.py", script))
        outputs = []
        if node.rank == 0:  # torch's rank 0 is there, which alone writes what the run leaves
            required = script is None
            outputs = [Output(file, output_blob(run), required=required) for file in MODEL_FILES]
            outputs.append(Output("checkpoint", output_blob(run), shape="tree", required=False, always=True))
        return Workload(
            name=name,
            kind="job",
            argv=torchrun(run, each),
            trust="uploaded" if script else "ours",
            env={
                "WINDLASS_HYPERPARAMETERS": json.dumps({**run.hyperparameters, "recipe": run.recipe}),
                **meeting(name, node),
            },
            secrets=tuple(run.secrets),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            resources=resources.times(node.inside),
            ranks=each * node.inside,
            nodes=node.inside,
            network="peers" if node.count > 1 else "none",
            grace_seconds=GRACE_SECONDS,
            deadline_seconds=run.deadline_seconds,
        )

    return Draft("node-0", resources, build, uploaded=script is not None, nodes=run.nodes, place=run.place_id)


def meeting(name: str, node: Node) -> dict[str, str]:
    """Where the nodes of a run meet. A target that starts them all meets at the first, which it names by its index."""
    if node.count == 1:
        return {}
    rendezvous = node.rendezvous or f"{name}-0.{name}:{RENDEZVOUS_PORT}"
    return {
        "WINDLASS_NODES": str(node.count),
        "WINDLASS_RENDEZVOUS": rendezvous,
        "WINDLASS_RENDEZVOUS_ID": rendezvous,
        **({"WINDLASS_NODE_RANK": str(node.rank)} if node.rendezvous else {}),
    }


def torchrun(run: TrainingRun, processes: int) -> tuple[str, ...]:
    """torchrun with so many processes on each node; each rank's lines carry its name. `launch` says where they meet."""
    program = ("-m", "workers.training.data_parallel") if run.script is None else ("in/script.py",)
    return (
        "python",
        "-m",
        "workers.training.launch",
        f"--nproc-per-node={processes}",
        f"--max-restarts={ELASTIC_RESTARTS}",
        "--role=rank",
        "--tee=3",
        *program,
    )


def follow(run: TrainingRun, placement: Placement) -> dict[str, Any]:
    """New metric points, and from them the step, the progress and the lead sentence."""
    changes: dict[str, Any] = {}
    if run.started_at is None and placement.phase not in {"pending", "starting"}:
        changes["started_at"] = Now()
    offset = run.metrics_offset
    content, begins = streams.read(placement, "metrics-0", offset, READ_BYTES)
    lines, consumed = streams.json_lines(content)
    if not consumed and len(content) == READ_BYTES:
        consumed = READ_BYTES  # no metrics line is that long: what stands here is something else
    if not consumed:
        return changes
    points: list[MetricPoint] = []
    latest: dict[str, float] = {}
    step, total = run.step, run.total_steps
    for line in lines:
        if not _is_step(line.get("step")):
            continue
        step = line["step"]
        total = line["total_steps"] if _is_step(line.get("total_steps")) else total
        at = _time(line.get("time"))
        for name, value in line.items():
            known = name in run.metrics or name in latest or len(run.metrics) + len(latest) < MOST_METRICS
            if known and name not in RESERVED and is_figure(value) and 0 < len(name) <= 60:
                points.append(MetricPoint(run=run, name=name, step=step, value=float(value), at=at))
                latest[name] = float(value)
    changes |= {
        "metrics": {**run.metrics, **latest},
        "metrics_offset": begins + consumed,
        "step": step,
        "total_steps": total,
        "progress": min(1.0, step / total) if total > 0 else None,
        "message": lead(step, total, {**run.metrics, **latest}),
        "also": lambda: _write_points(points),
        "after": 0 if len(content) == READ_BYTES else None,
    }
    return changes


def _write_points(points: list[MetricPoint]) -> None:
    """A resumed run passes steps again: the later value is the true one."""
    by_place = {(point.name, point.step): point for point in points}
    MetricPoint.objects.bulk_create(
        by_place.values(),
        update_conflicts=True,
        unique_fields=["run", "name", "step"],
        update_fields=["value", "at"],
        batch_size=1000,
    )


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_STEP


def _time(value: object) -> datetime:
    """A script's clock may say anything; then now will do."""
    if is_figure(value):
        with suppress(OverflowError, ValueError, OSError):
            return datetime.fromtimestamp(float(value), UTC)  # type: ignore[arg-type]
    return datetime.now(UTC)


def lead(step: int, total: int, metrics: dict[str, Any]) -> str:
    """What the page says first: how far, and how good."""
    words = f"Step {step:,} of {total:,}." if total else f"Step {step:,}."
    if "held_out_accuracy" in metrics:
        words += f" Held-out accuracy {metrics['held_out_accuracy']:.1%}."
    elif "loss" in metrics:
        words += f" Loss {metrics['loss']:.4g}."
    return words


def kept(run: TrainingRun, outputs: dict[str, Blob]) -> dict[str, Any]:
    return {"checkpoint": outputs["checkpoint"]} if "checkpoint" in outputs else {}


def cancelled(run: TrainingRun, changes: dict[str, Any]) -> str:
    has_one = run.checkpoint is not None or "checkpoint" in changes
    return f"Cancelled. {'Its checkpoint is kept.' if has_one else 'It had no checkpoint yet.'}"


def finish(run: TrainingRun, placement: Placement, outputs: dict[str, Blob]) -> Ending:
    """The outputs become the model's next version."""
    files = {name: blob for name, blob in outputs.items() if name in MODEL_FILES}
    fields = kept(run, outputs)
    if "reference.onnx" not in files and "model.safetensors" not in files:
        return Ending(
            "succeeded",
            "NoModel",
            "It ended well, but left no model: neither model.safetensors nor reference.onnx is in WINDLASS_OUT. "
            "Write one of them before the script ends; what it leaves running in the background ends with it.",
            fields,
        )
    version = ModelVersion(
        workspace_id=run.workspace_id,
        model=run.model,
        phase="ready",
        due_at=None,
        signature=signature_from(read_json(files.get("signature.json"))),
        metrics=figures_from(read_json(files.get("metrics.json"))),
    )

    def also() -> None:
        version.number = next_number(version)
        create(version, WINDLASS, reason="Trained", message=f"Made by {run.label}.")
        ModelFile.objects.bulk_create(
            [ModelFile(version=version, name=name, blob=blob) for name, blob in sorted(files.items())]
        )
        TrainingRun.objects.filter(pk=run.pk).update(result=version)

    accuracy = version.metrics.get("held_out_accuracy")
    words = f"{accuracy:.1%} on held-out data after {run.step:,} steps." if is_figure(accuracy) else "It ended well."
    return Ending("succeeded", "Trained", words, fields, also)


def next_number(version: ModelVersion) -> int:
    """Locks the model, so that two runs that end at once get two numbers."""
    model = type(version.model)._default_manager.select_for_update(no_key=True).get(pk=version.model_id)
    return (model.versions.aggregate(Max("number"))["number__max"] or 0) + 1


def clear(run: TrainingRun) -> None:
    """Its points go with it; its model version stays, it is a thing of its own."""
    MetricPoint.objects.filter(run=run).delete()


RECONCILER = Job(
    "training_run",
    "training",
    draft,
    finish,
    follow=follow,
    kept=kept,
    cancelled=cancelled,
    clear=clear,
    forgets=("checkpoint", "script"),
    started_phase="starting",
    fresh={"metrics_offset": 0},
    ended={"ended_at": Now()},
).reconciler()
