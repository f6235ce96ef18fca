"""Recipes: each fits its data, and its graph computes the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import train
from workers.training.dataset import Dataset, read_dataset
from workers.training.outputs import compare_graph, write_graph
from workers.training.processes import Processes
from workers.training.recipes import image_classifier, load_recipe


def test_a_table_is_learnt_and_its_graph_takes_raw_values(alone: Processes, iris: Path, tmp_path: Path):
    trained = train(alone, iris, tmp_path, recipe="table_classifier", batch_size=20)
    assert trained.figures["held_out_accuracy"] >= 0.9
    signature = trained.recipe.signature(trained.dataset)
    assert signature["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]
    assert signature["normalise"] == {"scale": 1.0}
    rows, _ = trained.recipe.batch(trained.dataset, torch.from_numpy(trained.dataset.held_out), False)
    module = trained.module.eval()
    write_graph(tmp_path / "graph.onnx", module, signature, rows)
    assert compare_graph(tmp_path / "graph.onnx", module, rows) < 1e-4


@pytest.mark.parametrize(("shape", "stages"), [((1, 8, 8), 2), ((1, 28, 28), 4), ((3, 32, 32), 4), ((3, 3, 5), 1)])
def test_the_network_fits_the_images(digits: Path, shape: tuple[int, ...], stages: int):
    dataset = dataclasses.replace(read_dataset(digits, "image"), features=np.zeros((4, *shape), np.uint8))
    arguments = image_classifier.arguments(dataset)
    assert len(arguments["widths"]) == stages
    assert image_classifier.build(json.loads(json.dumps(arguments)))(torch.zeros(2, *shape)).shape == (2, 10)


def test_shifted_images_keep_their_pixels():
    torch.manual_seed(0)
    image = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    image[:, 0, 3, 4] = 9
    moved = image_classifier.shifted(image, 1)
    rows, columns = moved[:, 0].amax(2).argmax(1), moved[:, 0].amax(1).argmax(1)
    assert (moved.sum((1, 2, 3)) == 9).all()
    assert set(rows.tolist()) == {2, 3, 4}
    assert set(columns.tolist()) == {3, 4, 5}


@pytest.mark.parametrize(("highest", "scale"), [(1, 1.0), (16, 1 / 16), (200, 1 / 255)])
def test_pixels_are_scaled_to_at_most_one(digits: Path, tmp_path: Path, highest: int, scale: float):
    for path in digits.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    features = np.load(digits / "features.npy").astype(np.float32) / 16 * highest
    np.save(tmp_path / "features.npy", features.astype(np.uint8))
    assert read_dataset(tmp_path, "image").scale == scale


def test_a_batch_is_scaled_and_labelled(digits: Path):
    dataset: Dataset = read_dataset(digits, "image")
    images, labels = load_recipe("image_classifier").batch(dataset, torch.from_numpy(dataset.train[:7]), False)
    assert images.dtype == torch.float32
    assert images.max() <= 1.0
    assert labels.tolist() == dataset.labels[dataset.train[:7]].tolist()
