"""Runs a model. The protocol knows arrays only, so that a SavedModel engine can stand beside this one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from workers.serving.messages import Refusal
from workers.serving.protocol import NUMPY
from workers.serving.signature import BadModel, Signature, TensorSpec

ORT_TYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float", "FP64": "double",
    "BYTES": "string",
}  # fmt: skip


class Engine(Protocol):
    platform: str
    load_seconds: float

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The arrays of `outputs`, in that order. May be called from several threads. Raises Refusal."""
        ...


class OnnxEngine:
    platform = "onnx_onnxv1"

    def __init__(self, path: Path, signature: Signature, threads: int) -> None:
        """Loads the model and runs it once. Raises BadModel when it can't be served."""
        started = time.perf_counter()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A thread that spins while it waits takes the core from the other replicas of this host.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not path.is_file():
            raise BadModel("ModelMissing", f"There is no {path.name} among the inputs of this workload.")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BadModel("ModelNotLoadable", f"onnxruntime can't load {path.name}: {bounded(error)}") from error
        _compare("input", signature.inputs, {node.name: node.type for node in self._session.get_inputs()})
        _compare("output", signature.outputs, {node.name: node.type for node in self._session.get_outputs()})
        self._warm_up(signature)
        self.load_seconds = time.perf_counter() - started

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        try:
            arrays: list[np.ndarray[Any, Any]] = self._session.run(outputs, feeds)
            return arrays
        except InvalidArgument as error:
            raise Refusal(400, f"The model does not take these values: {bounded(error)}") from error

    def _warm_up(self, signature: Signature) -> None:
        # The first run allocates and picks kernels. A model may refuse zeros of size 1 and still be sound, so that
        # a failure here is only said.
        feeds = {
            spec.name: np.full(spec.example_shape, "", dtype=np.object_)
            if spec.datatype == "BYTES"
            else np.zeros(spec.example_shape, dtype=NUMPY[spec.datatype])
            for spec in signature.inputs.values()
        }
        try:
            self._session.run(list(signature.outputs), feeds)
        except Exception as error:
            print(f"The model did not take a first run with zeros: {bounded(error)}", flush=True)


def bounded(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]


def _compare(role: str, specs: dict[str, TensorSpec], types: dict[str, str]) -> None:
    for name, spec in specs.items():
        if name not in types:
            raise BadModel(
                "SignatureMismatch",
                f'signature.json names the {role} "{name}", which model.onnx does not have. It has {", ".join(types)}.',
            )
        if types[name] != (want := f"tensor({ORT_TYPES[spec.datatype]})"):
            raise BadModel("SignatureMismatch", f'The {role} "{name}" is {types[name]} in model.onnx, not {want}.')
    if role == "input" and (left := [name for name in types if name not in specs]):
        raise BadModel("SignatureMismatch", f"model.onnx wants {', '.join(left)}, which signature.json does not name.")
