"""A prepared dataset: `dataset.json`, `features.npy`, `labels.npy`, `split.npy`; memory-mapped, never unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.training.failure import Failure

TRAIN, HELD_OUT = 0, 1
# The usual highest values of a pixel: a model sees values from 0 to 1 for each of them.
PIXEL_MAXIMA = (1, 16, 255)


@dataclass(frozen=True)
class Dataset:
    """`features` [N, ...] as stored; `labels` int64 [N]; `train` and `held_out` are indexes of items.

    `scale`: a model's inputs are the stored features times this.
    """

    kind: str
    classes: list[str]
    feature_names: list[str]
    features: NDArray[Any]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    scale: float

    @property
    def item_shape(self) -> list[int]:
        return list(self.features.shape[1:])


def read_dataset(directory: Path, kind: str) -> Dataset:
    """Raises Failure if it is missing, damaged or not of this kind."""
    try:
        description = json.loads((directory / "dataset.json").read_text())
        arrays = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in ("features", "labels", "split")}
        if description["kind"] != kind:
            raise Failure(
                "Dataset",
                f"The recipe learns from a dataset of kind {kind}; this one is of kind {description['kind']}. "
                f"Choose another recipe or a dataset of kind {kind}.",
            )
        return _checked(description, **arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(
            "Dataset", f"The prepared dataset can't be read ({type(error).__name__}: {error}). Upload it again."
        ) from error


def _checked(description: dict[str, Any], features: NDArray[Any], labels: NDArray[Any], split: NDArray[Any]) -> Dataset:
    classes = [str(name) for name in description["classes"]]
    train, held_out = np.flatnonzero(split == TRAIN), np.flatnonzero(split == HELD_OUT)
    if not len(features) == len(labels) == len(split):
        raise ValueError(f"{len(features)} features, {len(labels)} labels and {len(split)} split marks differ")
    if not len(train) or not len(held_out):
        raise ValueError(f"{len(train)} training items and {len(held_out)} held-out items: both need at least one")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"a label lies outside of the {len(classes)} classes")
    if not all(np.isfinite(features[start : start + 65_536]).all() for start in range(0, len(features), 65_536)):
        raise ValueError("a feature is NaN or infinite")
    scale = 1.0
    if description["kind"] == "image":
        highest = int(features.max())
        scale = 1.0 / next((maximum for maximum in PIXEL_MAXIMA if highest <= maximum), highest)
    return Dataset(
        description["kind"],
        classes,
        [str(name) for name in description.get("feature_names") or []],
        features,
        labels.astype(np.int64),
        train,
        held_out,
        scale,
    )
