"""What all classifiers share: cross entropy, accuracy, and a signature with classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from workers.training.dataset import Dataset


def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    inputs, targets = batch
    return functional.cross_entropy(module(inputs).float(), targets)


def measure(module: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    inputs, targets = batch
    logits = module(inputs).float()
    return {
        "items": targets.new_tensor(len(targets)),
        "correct": (logits.argmax(1) == targets).sum(),
        "loss": functional.cross_entropy(logits, targets, reduction="sum"),
    }


def metrics(sums: dict[str, float]) -> dict[str, float]:
    return {
        "held_out_accuracy": sums["correct"] / sums["items"],
        "held_out_loss": sums["loss"] / sums["items"],
    }


def classifier_signature(task: str, input_name: str, dataset: Dataset) -> dict[str, Any]:
    return {
        "task": task,
        "inputs": [{"name": input_name, "datatype": "FP32", "shape": [-1, *dataset.item_shape]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, len(dataset.classes)]}],
        "classes": dataset.classes,
        "normalise": {"scale": dataset.scale},
    }
