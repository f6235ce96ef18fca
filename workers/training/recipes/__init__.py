"""Recipes: what a model is, how it learns and what it answers. The training loop knows none of them.

A recipe is a module of this package with the functions of `Recipe`; its hyperparameters' defaults and bounds
stand in `apps.training.hyperparameters`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from apps.training.hyperparameters import RECIPES
from workers.training.dataset import Dataset

Batch = tuple[Tensor, Tensor]


class Recipe(Protocol):
    def arguments(self, dataset: Dataset) -> dict[str, Any]:
        """JSON-able; with the weights, all that `build` needs to make the module again."""
        ...

    def build(self, arguments: dict[str, Any]) -> nn.Module: ...

    def prepare(self, module: nn.Module, dataset: Dataset) -> None:
        """Set what is measured on the training items before the first step (such as their mean)."""
        ...

    def batch(self, dataset: Dataset, indexes: Tensor, augment: bool) -> Batch:
        """The module's inputs and targets on the CPU. Random numbers come from torch's global generator."""
        ...

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean over the items; a scalar."""
        ...

    def measure(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Sums over the items, added up over batches and processes; always with "items"."""
        ...

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """From the added sums of all held-out items to named figures."""
        ...

    def signature(self, dataset: Dataset) -> dict[str, Any]:
        """Task, inputs, outputs, classes and normalisation, with the data types' names of inference servers."""
        ...


def load_recipe(name: str) -> Recipe:
    """Raises KeyError for an unknown name."""
    return cast(Recipe, importlib.import_module(f"workers.training.recipes.{RECIPES[name].name}"))


def rebuild(config: dict[str, Any], weights_path: Path | str) -> nn.Module:
    """The trained module in evaluation mode, from `config.json`'s content and `model.safetensors`.

    Raises KeyError for an unknown recipe, RuntimeError if the weights are not those of this configuration.
    """
    with torch.random.fork_rng(devices=[]):
        module = load_recipe(config["recipe"]).build(config["arguments"])
    module.load_state_dict(load_file(weights_path))
    return module.eval()
