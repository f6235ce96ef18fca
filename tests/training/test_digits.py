"""The example, whole: digits on two processes, as good as promised, and all its outputs agree."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import Run
from workers.training.recipes import rebuild


@pytest.fixture(scope="module")
def held_out(trained: Run) -> tuple[np.ndarray, np.ndarray]:
    """Held-out images as the signature wants them, and their labels."""
    features, labels, split = (np.load(trained.data / f"{name}.npy") for name in ("features", "labels", "split"))
    scale = json.loads((trained.out / "signature.json").read_text())["normalise"]["scale"]
    return (features[split == 1] * scale).astype(np.float32), labels[split == 1]


def test_it_reaches_the_promised_accuracy(trained: Run):
    assert json.loads((trained.out / "metrics.json").read_text())["held_out_accuracy"] >= 0.97


def test_only_whole_outputs_are_left(trained: Run):
    assert {path.name for path in trained.out.iterdir()} - {"checkpoint-writing"} == {
        "checkpoint",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "reference.onnx",
        "signature.json",
    }
    assert trained.checkpoints == ["step-440"]


def test_the_configuration_and_weights_rebuild_the_model_of_the_graph(trained: Run, held_out):
    images, labels = held_out
    config = json.loads((trained.out / "config.json").read_text())
    with torch.inference_mode():
        logits = rebuild(config, trained.out / "model.safetensors")(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(trained.out / "reference.onnx", providers=["CPUExecutionProvider"])
    graph_logits = session.run(["logits"], {"image": images})[0]
    np.testing.assert_allclose(graph_logits, logits, atol=1e-4)
    accuracy = json.loads((trained.out / "metrics.json").read_text())["held_out_accuracy"]
    assert (logits.argmax(1) == labels).mean() == pytest.approx(accuracy, abs=1e-9)


def test_the_signature_is_that_of_the_graph(trained: Run):
    signature = json.loads((trained.out / "signature.json").read_text())
    graph = onnx.load(trained.out / "reference.onnx").graph
    for names, values in ((signature["inputs"], graph.input), (signature["outputs"], graph.output)):
        assert [item["name"] for item in names] == [value.name for value in values]
        for item, value in zip(names, values, strict=True):
            dimensions = [dimension.dim_value or -1 for dimension in value.type.tensor_type.shape.dim]
            assert item["shape"] == dimensions
    assert signature["task"] == "image_classification"
    assert signature["classes"] == [str(digit) for digit in range(10)]
    assert signature["normalise"] == {"scale": 0.0625}


def test_weights_are_finite_and_small_enough_to_read(trained: Run):
    weights = load_file(trained.out / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())


def test_metrics_tell_loss_speed_and_accuracy_up_to_the_last_step(trained: Run):
    lines = trained.metrics
    steps = [line for line in lines if "loss" in line]
    assert {"step", "total_steps", "time", "loss", "learning_rate", "grad_norm", "items_per_second"} == set(steps[0])
    assert steps[0]["step"] == 1
    assert steps[-1]["step"] == steps[-1]["total_steps"] == 440
    assert steps[-1]["loss"] < steps[0]["loss"] / 4
    evaluations = [line for line in lines if "held_out_accuracy" in line]
    assert [line["step"] for line in evaluations] == list(range(22, 441, 22))


def test_metrics_lines_are_few(trained: Run):
    steps = [line["time"] for line in trained.metrics if "loss" in line]
    assert len(steps) <= 3 + (steps[-1] - steps[0]) / 0.25
