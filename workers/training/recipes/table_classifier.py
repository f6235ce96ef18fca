"""A small perceptron for tables; the columns' means and spreads are part of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workers.training.dataset import Dataset
from workers.training.recipes.classification import classifier_signature, loss, measure, metrics

__all__ = ["arguments", "batch", "build", "loss", "measure", "metrics", "prepare", "signature"]

HIDDEN = [128, 128]


class Perceptron(nn.Module):
    """Float rows [N, features] to logits [N, classes]."""

    mean: Tensor
    spread: Tensor

    def __init__(self, features: int, classes: int, hidden: list[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        layers: list[nn.Module] = []
        for inputs, outputs in zip([features, *hidden], hidden, strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear([features, *hidden][-1], classes))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers((features - self.mean) / self.spread)


def arguments(dataset: Dataset) -> dict[str, Any]:
    return {"features": dataset.item_shape[0], "classes": len(dataset.classes), "hidden": HIDDEN}


def build(arguments: dict[str, Any]) -> nn.Module:
    return Perceptron(**arguments)


def prepare(module: nn.Module, dataset: Dataset) -> None:
    assert isinstance(module, Perceptron)
    rows = dataset.features[dataset.train].astype(np.float64)
    spread = rows.std(0)
    module.mean.copy_(torch.from_numpy(rows.mean(0)))
    module.spread.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)))  # a constant column says nothing


def batch(dataset: Dataset, indexes: Tensor, augment: bool) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(dataset.features[indexes.numpy()]).float()
    return rows, torch.from_numpy(dataset.labels[indexes.numpy()])


def signature(dataset: Dataset) -> dict[str, Any]:
    return classifier_signature("table_classification", "features", dataset) | {"feature_names": dataset.feature_names}
