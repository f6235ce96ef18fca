"""Exports a trained model as ONNX, optimises it if asked, and certifies that it still answers the same.

Inputs: `model.safetensors`, `config.json`, `reference.onnx`, `signature.json`, `data`. Outputs: `model.onnx`,
`certificate.json`. A figure outside its tolerance is a verdict in the certificate, not a failure of this program.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from apps.exports.tolerances import complete
from workers.export import certify, graph, held_out, measure, verdict
from workers.export.quantize import OPTIMISERS
from workers.inspection.program import Program, Refused, run, say

STAGES = ("Read", "Export", "Optimise", "Check", "Compare answers", "Measure latency", "Certify")
SIDES = ("inputs", "outputs")
CERTIFICATE_VERSION = 1
REFERENCE_DIFFERENCE = 1e-3
SLOWER = 1.2


class Stages:
    """Says each stage in the log, with its time, and in the metrics, with the figures known by then."""

    def __init__(self, program: Program) -> None:
        self.program, self.done, self.started = program, 0, time.monotonic()

    def finish(self, **figures: float) -> None:
        say(f"{STAGES[self.done]}: {time.monotonic() - self.started:.1f} s")
        self.done, self.started = self.done + 1, time.monotonic()
        self.program.progress(self.done, len(STAGES), **figures)


def main(program: Program) -> None:
    optimisation = program.hyperparameters.get("optimisation", "none")
    try:
        limits = complete(program.hyperparameters.get("tolerances") or {}, optimisation)
    except ValueError as error:
        raise Refused("BadHyperparameters", str(error)) from error
    stages = Stages(program)
    signature = read_signature(program.inputs)
    data = held_out.read(Path(os.environ.get("WINDLASS_DATA") or program.inputs / "data"), signature)
    reference = program.inputs / "reference.onnx"
    if not reference.is_file():
        raise Refused(
            "NoReference", "This model version has no ONNX graph to start from. Upload the model as ONNX, then export."
        )
    module = rebuilt(program.inputs)
    stages.finish(held_out_items=data.items)

    target = write_model(program, module, signature, optimisation, stages)
    try:
        before, after = (measure.of_session(graph.session(path)) for path in (reference, target))
    except graph.Unloadable as error:
        raise Refused("BadGraph", f"reference.onnx does not load: {error} Write it again, then export.") from error
    trained = before if module is None else measure.of_module(module)
    check_classes(trained(data.first()), data)
    answers = measure.answers(trained, after, data)
    stages.finish(max_abs_difference=answers.max_abs_difference)

    *latency, runs = measure.latencies(before, after, data.first())
    stages.finish(latency_p50_ms=latency[1].p50_ms, latency_p99_ms=latency[1].p99_ms)

    sizes = (reference.stat().st_size, target.stat().st_size)
    found = certify.values(answers, data, sizes, (latency[0], latency[1]))
    table, classes = certify.figures(found, limits), certify.by_class(answers, data)
    why = verdict.why(table, classes, data.items, optimisation)
    certificate = {
        "version": CERTIFICATE_VERSION,
        "verdict": "passed" if all(row["holds"] for row in table) else "rejected",
        "why": why,
        "optimisation": optimisation,
        "figures": table,
        "by_class": classes,
        "held_out_items": data.items,
        "latency_batch": 1,
        "latency_runs": runs,
        "threads": 1,
        "warnings": warnings(reference_difference(before, trained, data), found, optimisation),
        "checksums": checksums(program.inputs, target),
        "versions": versions(module is not None),
        "method": method(module is not None),
    }
    program.write_json("certificate.json", certificate)
    stages.finish(**{name: value.judged for name, value in found.items() if value.after is not None})
    say(why)


def write_model(program: Program, module: Any, signature: dict[str, Any], optimisation: str, stages: Stages) -> Path:
    """`model.onnx`: exported, optimised and checked. Raises Refused."""
    plain, target = program.scratch / "exported.onnx", program.outputs / "model.onnx"
    if module is None:
        shutil.copyfile(program.inputs / "reference.onnx", plain)
    else:
        graph.export(module, signature, plain)
    graph.check(plain, signature)
    stages.finish()
    if optimisation == "none":
        shutil.move(plain, target)
    else:
        OPTIMISERS[optimisation](plain, target)
    stages.finish(size_bytes=target.stat().st_size)
    if optimisation != "none":
        graph.check(target, signature)
    stages.finish()
    return target


def read_signature(inputs: Path) -> dict[str, Any]:
    """Raises Refused for one that a certificate can't be made by."""
    try:
        signature: dict[str, Any] = json.loads((inputs / "signature.json").read_text())
        sides = [(value["name"], value["datatype"], value["shape"]) for side in SIDES for value in signature[side]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            "BadSignature",
            f"signature.json can't be read ({type(error).__name__}: {error}). It holds inputs and outputs, such as "
            '{"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}], "outputs": [...]}.',
        ) from error
    given = signature["inputs"]
    if len(given) != 1 or given[0]["datatype"] != "FP32" or len(sides) < 2:
        raise Refused(
            "InputsNotSupported",
            f"The model takes {len(given)} inputs ({', '.join(value['datatype'] for value in given)}); "
            "a certificate needs a model with one FP32 input and an output.",
        )
    if given[0]["shape"][:1] != [-1]:
        raise Refused(
            "FixedBatch",
            f"The model takes inputs of shape {given[0]['shape']} only. Write its graph with a free first axis "
            "(dynamic_shapes of torch.onnx.export), and -1 for it in signature.json.",
        )
    return signature


def rebuilt(inputs: Path) -> Any:
    """The trained module, ready to answer, or None for a model that no recipe of ours rebuilds."""
    configuration = inputs / "config.json"
    config = json.loads(configuration.read_text()) if configuration.exists() else {}
    if not config.get("recipe"):
        return None
    # torch takes seconds to import, and a user's own model needs none of it.
    import torch
    from safetensors import SafetensorError

    from workers.training.recipes import rebuild

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    try:
        return rebuild(config, inputs / "model.safetensors")
    except KeyError as error:
        raise Refused(
            "UnknownRecipe",
            f"config.json names the recipe {config['recipe']!r} or lacks {error}, and no recipe here rebuilds that. "
            "Leave the recipe out, and the export starts from reference.onnx.",
        ) from error
    except (RuntimeError, TypeError, SafetensorError) as error:
        raise Refused(
            "WeightsDiffer", f"The weights are not those of config.json: {graph.first_line(error)} Upload both again."
        ) from error


def check_classes(output: Any, data: held_out.HeldOut) -> None:
    if output.ndim == 2 and 1 < output.shape[1] != len(data.classes):
        raise Refused(
            "ClassCount",
            f"The dataset has {len(data.classes)} classes, but the model ends in {output.shape[1]}. "
            "Export with the dataset that the model was trained on.",
        )


def reference_difference(before: measure.Model, trained: measure.Model, data: held_out.HeldOut) -> float:
    item = data.first()
    return float(np.abs(before(item) - trained(item)).max())


def warnings(difference: float, found: dict[str, certify.Value], optimisation: str) -> list[str]:
    said = []
    if difference > REFERENCE_DIFFERENCE:
        said.append(
            f"reference.onnx and the weights differ by {difference:.3g}: "
            "size and latency before are those of another model."
        )
    if "agreement" not in found:
        said.append("The model's output is not one figure a class, so accuracy and agreement were not measured.")
    latency = found["latency_p50_ms"]
    if latency.before and latency.after and latency.after > latency.before * SLOWER:
        said.append(f"It answers {latency.after / latency.before:.1f} times slower than before on this processor.")
    if optimisation == "dynamic_int8":
        said.append("Activations are scaled by batch, so an answer depends a little on what else is in its batch.")
    return said


def checksums(inputs: Path, target: Path) -> dict[str, str]:
    """SHA-256 of the export and of what it was made from."""
    sources = [inputs / name for name in ("model.safetensors", "config.json", "reference.onnx", "signature.json")]
    found = {}
    for path in (target, *filter(Path.exists, sources)):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def versions(with_torch: bool) -> dict[str, str]:
    packages = ("onnx", "onnxruntime", "numpy", *(("torch", "onnxscript") if with_torch else ()))
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def method(with_torch: bool) -> str:
    trained = "the trained module in torch" if with_torch else "the model's reference graph in onnxruntime"
    return (
        f"Answers: {trained} against the exported file in onnxruntime, on every held-out item, "
        f"{held_out.BATCH_ITEMS} a batch. "
        "Size and latency: the reference graph against the exported file, both in onnxruntime on one thread, "
        "one item a call, turn about in one process."
    )


if __name__ == "__main__":
    sys.exit(run(main))
