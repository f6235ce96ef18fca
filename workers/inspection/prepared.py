"""Writing a prepared dataset: the one form that training, export and certification read."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.inspection.program import Refused

TRAIN, HELD_OUT = 0, 1
MOST_PREPARED_BYTES = 8 * 1024**3
MOST_CLASSES = 1000
LISTED_PROBLEMS = 100


@dataclass
class Problems:
    """Rows that can't be used: all are counted, the first 100 are kept."""

    listed: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0

    def add(self, row: int, what: str) -> None:
        self.total += 1
        if len(self.listed) < LISTED_PROBLEMS:
            self.listed.append({"row": row, "what": what})

    @property
    def fix(self) -> str:
        return f"Leave out the {self.total:,} bad rows" if self.total > 1 else "Leave out the bad row"

    def to_json(self) -> list[dict[str, Any]]:
        return [{**problem, "fix": f"{self.fix}, or upload the file again."} for problem in self.listed]


class ItemWriter:
    """Appends items to `features.npy` (or `texts.jsonl`) one by one, so that memory does not grow with the dataset.

    Call `finish` before the files are read. Labels are whatever text the source has; classes are known at the end.
    """

    def __init__(self, tree: Path, shape: tuple[int, ...] | None, dtype: str = "<f4") -> None:
        """`shape` of one item; None for text. Raises Refused in `add` past the size limit."""
        tree.mkdir(parents=True, exist_ok=True)
        self.tree, self.shape, self.dtype = tree, shape, np.dtype(dtype)
        self.file = (tree / ("texts.jsonl" if shape is None else "features.npy")).open("wb")
        self.names: dict[str, int] = {}
        self.labels, self.digests, self.given_split = array("q"), array("Q"), array("b")
        self._write_header()

    def add(self, item: NDArray[Any] | str, label: str, split: int | None = None) -> None:
        if isinstance(item, str):
            content = json.dumps(item, ensure_ascii=False).encode() + b"\n"
        else:
            content = np.ascontiguousarray(item, dtype=self.dtype).tobytes()
        if self.file.tell() + len(content) > MOST_PREPARED_BYTES:
            raise Refused(
                "TooLarge",
                f"Prepared, this dataset is larger than {MOST_PREPARED_BYTES // 1024**3} GiB at item "
                f"{len(self.labels) + 1:,}. Upload fewer items, or set a smaller image_size for images, such as 224.",
            )
        self.file.write(content)
        self.labels.append(self.names.setdefault(label, len(self.names)))
        self.digests.append(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little"))
        self.given_split.append(-1 if split is None else split)

    def _write_header(self) -> None:
        """numpy leaves room for the count to grow, so the header can be written again at the end in place."""
        if self.shape is not None:
            shape = (len(self.labels), *self.shape)
            header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
            self.file.seek(0)
            np.lib.format.write_array_header_1_0(self.file, header)

    def finish(self) -> None:
        self._write_header()
        self.file.close()


@dataclass(frozen=True)
class SplitRule:
    held_out_fraction: float
    seed: int


def stratified(labels: NDArray[np.int64], rule: SplitRule) -> NDArray[np.uint8]:
    """0 train, 1 held out: the fraction of the whole, rounded up, shared among the classes by their size.

    The same labels, fraction and seed give the same split. A class keeps at least one item to learn from.
    """
    counts = np.bincount(labels)
    wanted = counts * rule.held_out_fraction
    taken = np.minimum(np.floor(wanted).astype(np.int64), np.maximum(counts - 1, 0))
    missing = math.ceil(round(len(labels) * rule.held_out_fraction, 9)) - int(taken.sum())
    for index in np.argsort(taken - wanted, kind="stable"):  # the largest remainders first
        if missing > 0 and taken[index] < counts[index] - 1:
            taken[index] += 1
            missing -= 1
    random = np.random.default_rng(rule.seed)
    split = np.zeros(len(labels), np.uint8)
    for index, count in enumerate(taken):
        split[random.permutation(np.flatnonzero(labels == index))[:count]] = HELD_OUT
    return split


def finish(items: ItemWriter, kind: str, rule: SplitRule, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes labels, split and `dataset.json` (with `facts` in it), and gives back what `dataset.json` says.

    Raises Refused for what can't be learnt from: too few items, one class, or labels that are no classes.
    """
    items.finish()
    classes = _sorted_classes(items.names)
    _check_classes(len(items.labels), classes)
    ranks = {name: rank for rank, name in enumerate(classes)}
    # `names` is in order of appearance, the numbers that `labels` holds.
    labels = np.array([ranks[name] for name in items.names], np.int64)[np.array(items.labels, np.int64)]
    given = np.array(items.given_split, np.int8)
    origin = "given" if (given == HELD_OUT).any() and (given == TRAIN).any() else "stratified"
    split = np.maximum(given, TRAIN).astype(np.uint8) if origin == "given" else stratified(labels, rule)
    counts = Counter(labels.tolist())
    train = int((split == TRAIN).sum())
    described = {
        "kind": kind,
        "items": len(labels),
        "classes": classes,
        "class_counts": {name: counts[rank] for rank, name in enumerate(classes)},
        "splits": {"train": train, "held_out": len(labels) - train},
        "split": {"origin": origin, "seed": rule.seed, "held_out_fraction": rule.held_out_fraction},
        "shape": list(items.shape or ()),
        **facts,
    }
    np.save(items.tree / "labels.npy", labels)
    np.save(items.tree / "split.npy", split)
    (items.tree / "dataset.json").write_text(json.dumps(described, ensure_ascii=False, indent=1))
    return described


def repeated_across_splits(items: ItemWriter) -> int:
    """How many held-out items are also, byte for byte, among those that a run learns from."""
    split = np.load(items.tree / "split.npy", allow_pickle=False)
    digests = np.array(items.digests, np.uint64)
    return int(np.isin(digests[split == HELD_OUT], digests[split == TRAIN]).sum())


def _sorted_classes(names: dict[str, int]) -> list[str]:
    """Whole numbers by value, so that "10" comes after "9"; else by name."""
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int) if whole else sorted(names)


def _check_classes(items: int, classes: list[str]) -> None:
    if items < 2:
        raise Refused("NotADataset", f"The file holds {items} usable items. Training needs at least 2 of each class.")
    if len(classes) < 2:
        raise Refused(
            "NotADataset",
            f'All {items:,} items are of one class, "{classes[0]}". There is nothing to tell apart: '
            "add items of a second class.",
        )
    if len(classes) > MOST_CLASSES or (items >= 20 and len(classes) > items / 2):
        raise Refused(
            "NotADataset",
            f"The labels hold {len(classes):,} different values in {items:,} items, so they are no classes. "
            f"Name a column of at most {MOST_CLASSES:,} classes in label_column, each with several items.",
        )
