"""Checks an uploaded model without running any code of its maker's.

Input: `upload`. Outputs: `report.json` (always) and, for ONNX, `signature.json`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workers.inspection.contents import format_of, pickle_message
from workers.inspection.program import Program, Refused, run, say

SAVE_AS = "Save the weights as safetensors, or the model as ONNX, and upload that."
EXPORT_AS = 'Export it with torch.onnx.export(model, inputs, "model.onnx", dynamo=True), and upload that.'
MOST_ONNX_BYTES = 2 * 1024**3 - 1
LISTED_TENSORS = 1000
REFUSED = {
    "empty": "The file is empty. Upload it again.",
    "pt2": f"The file is a saved torch program (.pt2), and opening one can run code. {EXPORT_AS}",
    "keras": "The file is a Keras model, and opening one can run code. "
    'Export it with model.export("model.onnx", format="onnx"), and upload that.',
    "hdf5": "The file is HDF5, as Keras once saved models, and opening one can run code. "
    'Export the model with model.export("model.onnx", format="onnx"), and upload that.',
    "savedmodel": "The file is a TensorFlow SavedModel, which isn't read yet. Convert it to ONNX with tf2onnx.",
    "tflite": "The file is a TensorFlow Lite model, which isn't read. Convert it to ONNX with tf2onnx.",
    "gguf": f"The file is GGUF, which isn't read yet. {SAVE_AS}",
    "zip": f"The file is a zip. {SAVE_AS}",
    "npz": f"The file is a NumPy archive: data, or weights without names that a recipe knows. {SAVE_AS}",
}


def main(program: Program) -> None:
    filename = str(program.hyperparameters.get("filename") or "upload")
    upload = program.inputs / "upload"
    found = "unknown"
    try:
        found = format_of(upload)
        if found == "safetensors":
            report = inspect_safetensors(upload)
        elif found in ("pickle", "torch"):
            raise Refused("PickleRefused", pickle_message(filename, SAVE_AS))
        elif found in REFUSED:
            raise Refused("NotAModel", f"{filename} can't be taken. {REFUSED[found]}")
        else:  # ONNX has no beginning to know it by
            found = "onnx"
            report, signature = inspect_onnx(upload, filename)
            program.write_json("signature.json", signature)
    except Refused as refused:
        program.write_json("report.json", {"ok": False, "format": found, "message": refused.message})
        raise
    program.write_json("report.json", report)
    say(report["message"])


def inspect_safetensors(path: Path) -> dict[str, Any]:
    """Reads the header only, through the library, which checks that it covers the file exactly."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            tensors = [{"name": n, "shape": s.get_shape(), "datatype": s.get_dtype()} for n, s in slices.items()]
    except (SafetensorError, OSError) as error:
        raise Refused(
            "NotAModel", f"The safetensors file is damaged or was cut short ({error}). Upload it again."
        ) from error
    parameters = sum(math.prod(tensor["shape"]) for tensor in tensors)
    return {
        "ok": True,
        "format": "safetensors",
        "tensors": tensors[:LISTED_TENSORS],
        "tensor_count": len(tensors),
        "parameters": parameters,
        "notes": ["Weights alone are no model: it also takes a config.json that names a recipe, or an ONNX file."],
        "message": f"{len(tensors):,} tensors with {parameters:,} parameters, all readable.",
    }


def inspect_onnx(path: Path, filename: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(report, signature). Raises Refused."""
    import onnx
    from google.protobuf.message import DecodeError

    from workers.export.graph import Unloadable, first_line, session, signature_of

    if path.stat().st_size > MOST_ONNX_BYTES:
        raise Refused(
            "TooLarge", f"{filename} is larger than 2 GiB, the most an ONNX file can hold. Export it as fp16."
        )
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        model = onnx.ModelProto()
    if not model.ir_version or not model.graph.node:
        raise Refused("NotAModel", f"{filename} is no model: neither ONNX nor safetensors. {SAVE_AS}")
    elsewhere = sorted({_location(tensor) for tensor in _tensors(model) if tensor.data_location == tensor.EXTERNAL})
    if elsewhere:
        raise Refused(
            "ExternalData",
            f'{filename} keeps weights in another file, "{elsewhere[0]}". Save all in one: '
            'onnx.save(onnx.load("model.onnx"), "one.onnx"), and upload that.',
        )
    try:
        onnx.checker.check_model(model)
        loaded = session(path)
    except (onnx.checker.ValidationError, Unloadable) as error:
        raise Refused(
            "NotAModel", f"{filename} can't be run: {first_line(error)} Export it again, with the standard operators."
        ) from error
    signature: dict[str, Any] = {"task": "tensors", **signature_of(loaded)}
    fixed = [value["name"] for value in signature["inputs"] if value["shape"][:1] != [-1]]
    report = {
        "ok": True,
        "format": "onnx",
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "parameters": sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        "operators": len(model.graph.node),
        "notes": [f'Input "{name}" has no free batch axis: requests can\'t be batched.' for name in fixed],
        "message": f"{_told(signature['inputs'])} to {_told(signature['outputs'])}, "
        f"{len(model.graph.node):,} operators; it loads.",
    }
    return report, signature


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor in the file, also those in branches, loops and functions."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
            graphs.extend([*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs])


def _location(tensor: Any) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _told(values: list[dict[str, Any]]) -> str:
    return ", ".join(f"{value['name']} {value['datatype']} {value['shape']}" for value in values)


if __name__ == "__main__":
    sys.exit(run(main))
