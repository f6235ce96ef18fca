"""The held-out part of a prepared dataset, as the model wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.inspection.program import Refused

HELD_OUT = 1
BATCH_ITEMS = 128


@dataclass(frozen=True)
class HeldOut:
    """`rows`: which items of the dataset; `labels` int64, in the order of `rows`. Features stay on disk."""

    features: NDArray[Any]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    normalise: dict[str, Any]

    @property
    def items(self) -> int:
        return len(self.rows)

    def first(self) -> NDArray[np.float32]:
        """A batch of one."""
        return self._prepared(self.rows[:1])

    def batches(self) -> Iterator[NDArray[np.float32]]:
        for start in range(0, self.items, BATCH_ITEMS):
            yield self._prepared(self.rows[start : start + BATCH_ITEMS])

    def _prepared(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = np.asarray(self.features[rows], dtype=np.float32)
        values = values * np.float32(self.normalise.get("scale", 1.0))
        per_channel = [1, -1, *[1] * (values.ndim - 2)]
        if "mean" in self.normalise:
            values = values - np.asarray(self.normalise["mean"], np.float32).reshape(per_channel)
        if "std" in self.normalise:
            values = values / np.asarray(self.normalise["std"], np.float32).reshape(per_channel)
        return np.ascontiguousarray(values, dtype=np.float32)


def read(data: Path, signature: dict[str, Any]) -> HeldOut:
    """Raises Refused for a dataset that this model can't be judged by."""
    if not (data / "dataset.json").is_file():
        raise Refused(
            "NoDataset",
            "There is no dataset to compare the answers on, and without one there is no certificate. "
            "Choose the dataset that the model was trained on, then export again.",
        )
    described = json.loads((data / "dataset.json").read_text())
    if described["kind"] == "text":
        raise Refused(
            "TextNotSupported",
            "The dataset holds text, and an export of a text model can't be certified yet. "
            "Export a model that was trained on images or a table.",
        )
    features = np.load(data / "features.npy", mmap_mode="r", allow_pickle=False)
    wanted = signature["inputs"][0]["shape"][1:]
    if len(wanted) != features.ndim - 1 or any(
        w not in (-1, s) for w, s in zip(wanted, features.shape[1:], strict=True)
    ):
        raise Refused(
            "ShapesDiffer",
            f"The dataset's items have shape {list(features.shape[1:])}; the model wants {wanted}. "
            "Export with the dataset that the model was trained on.",
        )
    rows = np.flatnonzero(np.load(data / "split.npy", allow_pickle=False) == HELD_OUT)
    if not len(rows):
        raise Refused("NothingHeldOut", "The dataset has no held-out items, so nothing can be compared on them.")
    labels = np.load(data / "labels.npy", allow_pickle=False)[rows]
    return HeldOut(features, rows, labels, tuple(described["classes"]), signature.get("normalise") or {})
