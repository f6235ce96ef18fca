"""A classifier of digits by least squares, in numpy and as ONNX, and the export program run as a target does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from workers.inspection.prepared import SplitRule, stratified

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: Path
    log: str
    metrics: list[dict[str, Any]]

    @property
    def certificate(self) -> Any:
        return json.loads((self.out / "certificate.json").read_text())

    @property
    def figures(self) -> dict[str, Any]:
        return {row["name"]: row for row in self.certificate["figures"]}

    @property
    def failure(self) -> Any:
        return json.loads((self.out / "failure.json").read_text())


@dataclass(frozen=True)
class Bench:
    """A workload's directory, ready for an export; `weights` [64, 10] and `bias` [10] of the linear model."""

    directory: Path
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    split: NDArray[np.uint8]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def inputs(self) -> Path:
        return self.directory / "in"

    @property
    def held_out(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Normalised images [360, 1, 8, 8] and labels."""
        chosen = self.split == 1
        return self.images[chosen].astype(np.float32) / 16, self.labels[chosen]

    def logits(self) -> NDArray[np.float64]:
        inputs = self.held_out[0].reshape(-1, 64).astype(np.float64)
        return inputs @ self.weights.astype(np.float64) + self.bias

    def rewrite(self, name: str, change: Callable[[Any], Any]) -> None:
        path = self.inputs / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    def export(self, **hyperparameters: Any) -> Ended:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.directory / "tmp"),
            "WINDLASS_IN": str(self.inputs),
            "WINDLASS_OUT": str(self.directory / "out"),
            "WINDLASS_METRICS": str(self.directory / "metrics.jsonl"),
            "WINDLASS_DATA": str(self.inputs / "data"),
            "WINDLASS_HYPERPARAMETERS": json.dumps(hyperparameters),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "workers.export.onnx"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            cwd=self.directory,
        )
        metrics = self.directory / "metrics.jsonl"
        lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
        return Ended(ended.returncode, self.directory / "out", ended.stdout + ended.stderr, lines)


def _graph(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> onnx.ModelProto:
    """Flatten and multiply. A large constant makes the file worth quantising."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="session")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images.astype(np.uint8)[:, None], found.target.astype(np.int64)


@pytest.fixture
def bench(tmp_path: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Bench:
    """A model that no recipe rebuilds: only its graph is there."""
    images, labels = digits
    split = stratified(labels, SplitRule(0.2, 7))
    rows = np.c_[images.reshape(-1, 64) / 16, np.ones(len(images))][split == 0]
    solution = np.linalg.lstsq(rows, np.eye(10)[labels[split == 0]], rcond=None)[0].astype(np.float32) * 8
    data = tmp_path / "in" / "data"
    for directory in (data, tmp_path / "out", tmp_path / "tmp"):
        directory.mkdir(parents=True)
    np.save(data / "features.npy", images)
    np.save(data / "labels.npy", labels)
    np.save(data / "split.npy", split)
    classes = [str(digit) for digit in range(10)]
    (data / "dataset.json").write_text(
        json.dumps({"kind": "image", "items": 1797, "classes": classes, "shape": [1, 8, 8]})
    )
    signature = {
        "task": "image_classification",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
        "classes": classes,
        "normalise": {"scale": 0.0625},
    }
    (tmp_path / "in" / "signature.json").write_text(json.dumps(signature))
    (tmp_path / "in" / "config.json").write_text("{}")
    onnx.save(_graph(solution[:64], solution[64]), tmp_path / "in" / "reference.onnx")
    return Bench(tmp_path, images, labels, split, solution[:64], solution[64])
