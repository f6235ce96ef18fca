"""What a step is made of: which items, which learning rate, in how many parts, how exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from apps.training.hyperparameters import complete
from tests.training.conftest import train
from workers.training.optimisation import Order, learning_rate
from workers.training.processes import Processes


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_step_has_the_same_items_for_any_number_of_processes(world_size: int):
    items = np.arange(100, 203)
    alone = Order(items, 8, 3, 0, 1)
    together = [Order(items, 8, 3, rank, world_size) for rank in range(world_size)]
    for step in (0, 5, alone.steps_per_epoch - 1, alone.steps_per_epoch, 40):
        shares = [order[step].tolist() for order in together]
        assert {len(share) for share in shares} == {8 // world_size}
        assert sorted(item for share in shares for item in share) == sorted(alone[step].tolist())


def test_an_epoch_has_each_item_at_most_once_and_another_order_than_the_next():
    order = Order(np.arange(103), 8, 3, 0, 1)
    epochs = [torch.cat([order[epoch * 12 + step] for step in range(12)]).tolist() for epoch in range(2)]
    assert all(len(set(epoch)) == 96 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_learning_rate_rises_and_falls():
    hyperparameters = complete({"recipe": "image_classifier", "learning_rate": 0.1, "warmup_steps": 10})
    rates = [learning_rate(step, 100, hyperparameters) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[9] == rates[10] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.05)
    assert rates[-1] < 0.001


def test_parts_add_up_to_the_whole_batch(alone: Processes, iris: Path, tmp_path: Path):
    whole, parts = (
        train(alone, iris, tmp_path / str(count), recipe="table_classifier", steps=6, batch_size=24, accumulation=count)
        for count in (1, 4)
    )
    for name, tensor in whole.module.state_dict().items():
        torch.testing.assert_close(parts.module.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(alone: Processes, iris: Path, tmp_path: Path):
    first, again, other = (
        train(alone, iris, tmp_path / str(number), recipe="table_classifier", steps=3, seed=seed).module.state_dict()
        for number, seed in enumerate((5, 5, 6))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_bf16_learns_too(alone: Processes, digits: Path, tmp_path: Path):
    trained = train(alone, digits, tmp_path, recipe="image_classifier", epochs=2, precision="bf16")
    assert trained.figures["held_out_accuracy"] > 0.6
    assert {parameter.dtype for parameter in trained.module.parameters()} == {torch.float32}
