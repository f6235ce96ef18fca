"""A few items of a prepared dataset, read from its blob without fetching all of it."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import numpy as np

from apps.core.errors import Conflict, Missing
from apps.registry import blobs
from apps.registry.models import Blob, DatasetVersion
from apps.registry.parts import PART_BYTES

SPLITS = {"train": 0, "held_out": 1}
MOST_TEXT_BYTES = 20_000


class BlobFile(io.RawIOBase):
    """A blob as a file that can be sought in; one part of it is in memory."""

    def __init__(self, blob: Blob) -> None:
        self.blob, self.size, self.position = blob, blob.size_bytes or 0, 0
        self.number, self.part = -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, start + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        number = self.position // PART_BYTES
        if number != self.number and self.position < self.size:
            start = number * PART_BYTES
            self.part = b"".join(blobs.read(self.blob, start, min(self.size, start + PART_BYTES)))
            self.number = number
        begin = self.position - number * PART_BYTES
        piece = self.part[begin : begin + len(buffer)] if self.position < self.size else b""
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


def samples(version: DatasetVersion, *, split: str, offset: int, limit: int) -> dict[str, Any]:
    """`items`: [{index, label, class, features or text}] of a split; `total`; and what the dataset is.

    Raises Conflict where the version is not ready.
    """
    if version.prepared is None:
        word = version.current_phase.word.lower()
        raise Conflict(f"{version.name} can't be shown: {word}. Wait until it was checked.", code="NotReady")
    with tarfile.open(fileobj=io.BufferedReader(BlobFile(version.prepared), 64 * 1024), mode="r:") as tar:
        files = {member.name.removeprefix("./"): member for member in tar.getmembers() if member.isfile()}

        def opened(name: str) -> Any:
            file = tar.extractfile(files[name]) if name in files else None
            if file is None:
                raise Missing(f"The prepared dataset of {version.name} has no {name}.")
            return file

        described = json.load(opened("dataset.json"))
        numbers = np.flatnonzero(_array(opened("split.npy")) == SPLITS[split])
        wanted = [int(number) for number in numbers[offset : offset + limit]]
        labels = _rows(opened("labels.npy"), wanted)
        features = _texts(opened("texts.jsonl"), wanted) if "texts.jsonl" in files else None
        if features is None:
            features = [row.tolist() for row in _rows(opened("features.npy"), wanted)]
    classes = described.get("classes", [])
    key = "text" if described.get("kind") == "text" else "features"
    items = [
        {"index": index, "label": int(label), "class": _class(classes, int(label)), key: value}
        for index, label, value in zip(wanted, labels, features, strict=True)
    ]
    shown = ("kind", "classes", "shape", "feature_names", "value_range", "items", "splits")
    facts = {name: described[name] for name in shown if name in described}
    return {"items": items, "total": len(numbers), "offset": offset, "split": split, "dataset": facts}


def _class(classes: list[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and where the values begin, of an array of plain numbers in C order."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = reader(file)
    if fortran_order or dtype.hasobject:
        raise Conflict("The prepared dataset has an array that can't be read in pieces.", code="NotReady")
    return shape, dtype, file.tell()


def _array(file: Any) -> np.ndarray[Any, Any]:
    shape, dtype, _start = _header(file)
    return np.frombuffer(file.read(), dtype=dtype).reshape(shape)


def _rows(file: Any, numbers: list[int]) -> list[Any]:
    shape, dtype, start = _header(file)
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    found = []
    for number in numbers:
        file.seek(start + number * row_bytes)
        found.append(np.frombuffer(file.read(row_bytes), dtype=dtype).reshape(shape[1:]))
    return found


def _texts(file: Any, numbers: list[int]) -> list[str]:
    """By line; what is before has to be passed over."""
    wanted, found = set(numbers), []
    for number, line in enumerate(file):
        if number in wanted:
            found.append(json.loads(line)[:MOST_TEXT_BYTES])
        if len(found) == len(numbers):
            break
    return found
