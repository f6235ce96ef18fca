"""From a module to an ONNX file that the checker and onnxruntime accept."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime

from workers.inspection.program import Refused

if TYPE_CHECKING:
    import torch

DATATYPES = {
    "tensor(float)": "FP32",
    "tensor(float16)": "FP16",
    "tensor(double)": "FP64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
}
"""The Open Inference Protocol's name of each onnxruntime type."""


def export(module: torch.nn.Module, signature: dict[str, Any], path: Path) -> None:
    """Writes `module` (one FP32 input, one output) as ONNX with the names and free axes of `signature`.

    Raises Refused where torch can't trace the module.
    """
    import torch

    given, answer = signature["inputs"][0], signature["outputs"][0]
    free = {axis: "batch" if axis == 0 else f"axis_{axis}" for axis, size in enumerate(given["shape"]) if size == -1}
    # A batch of 1 would be taken for a constant.
    example = torch.zeros([2 if size == -1 else size for size in given["shape"]])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                external_data=False,
                input_names=[given["name"]],
                output_names=[answer["name"]],
                dynamic_shapes=({axis: torch.export.Dim(name) for axis, name in free.items()},),
            )
        except torch.onnx.OnnxExporterError as error:
            raise Refused("ExportFailed", f"torch can't turn this model into a graph: {first_line(error)}") from error
    assert program is not None  # it is None only without dynamo
    model = program.model_proto
    _forget_origin(model)
    onnx.save(model, path)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drops the exporter's notes: a twelfth of a small file, and they hold this machine's paths."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


class Unloadable(Exception):
    """onnxruntime can't run the graph; the message is its reason in one line."""


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Raises Unloadable."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise Unloadable(first_line(error)) from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def signature_of(loaded: onnxruntime.InferenceSession) -> dict[str, list[dict[str, Any]]]:
    """{"inputs": [{"name", "datatype", "shape"}], "outputs": [...]}; a free axis is -1."""

    def described(values: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": value.name,
                "datatype": DATATYPES.get(value.type, value.type),
                "shape": [size if isinstance(size, int) and size >= 0 else -1 for size in value.shape or []],
            }
            for value in values
        ]

    return {"inputs": described(loaded.get_inputs()), "outputs": described(loaded.get_outputs())}


def check(path: Path, signature: dict[str, Any]) -> None:
    """Raises Refused unless the file is sound, loads, and takes and gives what `signature` promises."""
    try:
        onnx.checker.check_model(str(path))
        found = signature_of(session(path))
    except (onnx.checker.ValidationError, Unloadable) as error:
        raise Refused("BadGraph", f"The graph does not load: {first_line(error)}") from error
    for side in ("inputs", "outputs"):
        promised = [(value["name"], value["datatype"], list(value["shape"])) for value in signature[side]]
        actual = [(value["name"], value["datatype"], value["shape"]) for value in found[side]]
        if promised != actual:
            raise Refused(
                "SignatureDiffers",
                f"The graph's {side} are {actual}, and signature.json promises {promised}. "
                "Write the signature of this model, then export again.",
            )
