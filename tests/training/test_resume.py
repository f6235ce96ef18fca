"""A run that goes on from a checkpoint ends where it would have ended without the break."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.training.conftest import train
from workers.training.checkpoints import latest
from workers.training.failure import Failure
from workers.training.loop import Training
from workers.training.processes import Processes

SETTINGS = {"recipe": "image_classifier", "schedule": "constant", "checkpoint_every_steps": 4}


def assert_same(first: Training, second: Training) -> None:
    for name, tensor in first.module.state_dict().items():
        torch.testing.assert_close(second.module.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)


def test_a_checkpoint_brought_in_is_gone_on_from(alone: Processes, digits: Path, tmp_path: Path):
    whole = train(alone, digits, tmp_path / "whole", steps=30, **SETTINGS)
    train(alone, digits, tmp_path / "in", steps=11, **SETTINGS)
    resumed = train(alone, digits, tmp_path / "resumed", carried_in=tmp_path / "in", steps=30, **SETTINGS)
    lines = [json.loads(line) for line in (tmp_path / "resumed" / "metrics.jsonl").read_text().splitlines()]
    assert min(line["step"] for line in lines) > 11
    assert_same(whole, resumed)


def test_its_own_checkpoint_is_preferred(alone: Processes, digits: Path, tmp_path: Path):
    train(alone, digits, tmp_path / "in", steps=5, **SETTINGS)
    train(alone, digits, tmp_path / "out", steps=9, **SETTINGS)
    again = train(alone, digits, tmp_path / "out", carried_in=tmp_path / "in", steps=9, **SETTINGS)
    assert again.step == 9
    assert again.figures["held_out_accuracy"] > 0


def test_a_half_written_checkpoint_is_not_taken(alone: Processes, digits: Path, tmp_path: Path):
    train(alone, digits, tmp_path, steps=5, **SETTINGS)
    complete_one = latest(tmp_path / "checkpoint")
    assert complete_one is not None
    shutil.copytree(complete_one, tmp_path / "checkpoint-writing" / "step-8")
    (tmp_path / "checkpoint" / "step-7").mkdir()
    assert latest(tmp_path / "checkpoint") == complete_one
    train(alone, digits, tmp_path, steps=6, **SETTINGS)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["step-6"]
    assert list((tmp_path / "checkpoint-writing").iterdir()) == []


def test_the_new_hyperparameters_count(alone: Processes, digits: Path, tmp_path: Path):
    train(alone, digits, tmp_path / "in", steps=3, **SETTINGS)
    resumed = train(alone, digits, tmp_path / "out", carried_in=tmp_path / "in", steps=4, weight_decay=0.3, **SETTINGS)
    assert resumed.optimiser.param_groups[0]["weight_decay"] == 0.3


def test_another_optimiser_starts_afresh_from_the_weights(alone: Processes, digits: Path, tmp_path: Path):
    train(alone, digits, tmp_path / "in", steps=3, **SETTINGS)
    resumed = train(alone, digits, tmp_path / "out", carried_in=tmp_path / "in", steps=4, optimiser="sgd", **SETTINGS)
    assert resumed.step == 4


def test_a_checkpoint_of_another_model_is_refused(alone: Processes, digits: Path, iris: Path, tmp_path: Path):
    train(alone, iris, tmp_path / "in", recipe="table_classifier", steps=1)
    with pytest.raises(Failure, match="is of another model") as refused:
        train(alone, digits, tmp_path / "out", carried_in=tmp_path / "in", steps=1, recipe="image_classifier")
    assert refused.value.code == "CheckpointMismatch"


def test_a_damaged_checkpoint_is_refused(alone: Processes, digits: Path, tmp_path: Path):
    train(alone, digits, tmp_path / "in", steps=1, **SETTINGS)
    for path in (tmp_path / "in" / "checkpoint" / "step-1").glob("*.distcp"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Failure, match="can't be read") as refused:
        train(alone, digits, tmp_path / "out", carried_in=tmp_path / "in", steps=2, **SETTINGS)
    assert refused.value.code == "CheckpointDamaged"


def test_what_keeps_a_checkpoint_from_being_written_is_told_as_it_is(alone: Processes, digits: Path, tmp_path: Path):
    training = train(alone, digits, tmp_path, steps=1, **SETTINGS)
    shutil.rmtree(tmp_path / "checkpoint-writing")
    (tmp_path / "checkpoint-writing").write_text("no folder")
    with pytest.raises(OSError):
        training.checkpoints.finish(2)
