"""Optimiser, learning rate and the order of items: each a function of the hyperparameters and the step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DistributedSampler


def make_optimiser(module: nn.Module, hyperparameters: dict[str, Any]) -> torch.optim.Optimizer:
    """Weight decay for matrices and kernels only: biases and norms are not to be pulled towards 0."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": hyperparameters["weight_decay"]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if hyperparameters["optimiser"] == "sgd":
        return torch.optim.SGD(groups, lr=hyperparameters["learning_rate"], momentum=0.9)
    return torch.optim.AdamW(groups, lr=hyperparameters["learning_rate"])


def learning_rate(step: int, total_steps: int, hyperparameters: dict[str, Any]) -> float:
    """For the step from `step` to `step + 1`."""
    highest: float = hyperparameters["learning_rate"]
    warmup = hyperparameters["warmup_steps"]
    if step < warmup:
        return highest * (step + 1) / warmup
    if hyperparameters["schedule"] == "constant":
        return highest
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


class Order:
    """Which items this process takes at a step. Needs no memory of earlier steps, so a run goes on anywhere.

    A step's items over all processes are the same for any number of them; the rest of an epoch that fills no
    batch is left out, another rest in each epoch.
    """

    def __init__(self, items: NDArray[np.int64], batch_size: int, seed: int, rank: int, world_size: int) -> None:
        self._items = torch.from_numpy(items)
        self._share = batch_size // world_size
        self.steps_per_epoch = len(items) // batch_size
        self._sampler: DistributedSampler[int] = DistributedSampler(
            range(len(items)),  # type: ignore[arg-type]
            num_replicas=world_size,
            rank=rank,
            seed=seed,
            drop_last=True,
        )
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def __getitem__(self, step: int) -> Tensor:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._sampler.set_epoch(epoch)
            self._order = torch.tensor(list(self._sampler))
            self._epoch = epoch
        return self._items[self._order[position * self._share : (position + 1) * self._share]]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Randomness of a step, a function of where it is: no generator's state need be kept."""
    return ((seed * 1_000_003 + step) * 65_537 + rank) % 2**63
