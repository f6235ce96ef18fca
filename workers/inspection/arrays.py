"""NumPy archives (npz): features and labels as arrays, never as pickled objects. Rows are read one block at a time."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from workers.inspection.contents import pickle_message
from workers.inspection.options import Read, Reading
from workers.inspection.prepared import HELD_OUT, MOST_PREPARED_BYTES, TRAIN, ItemWriter
from workers.inspection.program import Refused

FEATURE_NAMES = ("features", "X", "x", "images", "data")
LABEL_NAMES = ("labels", "y", "target", "label", "targets")
BLOCK_BYTES = 8 * 1024**2
CHANNELS = (1, 3, 4)
BYTE_MOST = 255


@dataclass(frozen=True)
class Stored:
    """One array in the archive, known by its header only."""

    archive: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    @property
    def name(self) -> str:
        return self.member.removesuffix(".npy")

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The rows in order, a few MiB at a time. Raises Refused where the archive is damaged."""
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        try:
            with zipfile.ZipFile(self.archive) as archive, archive.open(self.member) as file:
                if self.fortran_order:
                    yield np.lib.format.read_array(file, allow_pickle=False)
                    return
                _read_header(file)
                rows_left, most = self.shape[0], max(1, BLOCK_BYTES // max(1, row_bytes))
                while rows_left:
                    rows = min(rows_left, most)
                    content = file.read(rows * row_bytes)
                    yield np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:])
                    rows_left -= rows
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise _not(f'the array "{self.name}" is damaged ({error}). Upload the file again.') from error

    def whole(self) -> NDArray[Any]:
        return np.concatenate(list(self.blocks())) if self.shape[0] else np.zeros(self.shape, self.dtype)


def _not(message: str) -> Refused:
    return Refused("NotADataset", f"This npz can't be used: {message}")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(file)


def stored_arrays(path: Path, filename: str) -> dict[str, Stored]:
    """By name. Raises Refused for pickled objects, and for headers that promise more than the file holds."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            try:
                with archive.open(member) as file:
                    shape, fortran_order, dtype = _read_header(file)
                    content_bytes = member.file_size - file.tell()
            except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError) as error:
                raise _not(f"{member.filename} is no NumPy array ({error}).") from error
            stored = Stored(path, member.filename, shape, dtype, fortran_order)
            if dtype.hasobject:
                raise Refused(
                    "PickleRefused",
                    pickle_message(
                        f"{filename}: {stored.name}",
                        "Give the array a fixed type before saving, such as "
                        f'np.savez("data.npz", {stored.name}={stored.name}.astype("float32")).',
                    ),
                )
            if math.prod(shape) * dtype.itemsize != content_bytes:
                raise _not(
                    f'the array "{stored.name}" promises shape {list(shape)} of {dtype}, but holds {content_bytes:,} '
                    "bytes. Save and upload it again."
                )
            if content_bytes > MOST_PREPARED_BYTES:
                raise _not(f'the array "{stored.name}" unpacks to {content_bytes:,} bytes; the most is 8 GiB.')
            found[stored.name] = stored
    return found


def read(reading: Reading) -> Read:
    arrays = stored_arrays(reading.upload, reading.options.filename)
    parts = _parts(arrays)
    for features, labels, _ in parts:
        if not features.shape or labels.shape != features.shape[:1]:
            raise _not(
                f'"{features.name}" has shape {list(features.shape)} and "{labels.name}" {list(labels.shape)}. '
                f'"{labels.name}" must hold one label for each item of "{features.name}".'
            )
        if 0 in features.shape:
            raise _not(f'"{features.name}" has shape {list(features.shape)}, so it holds nothing.')
        if features.dtype.kind not in "biuf":
            raise _not(f'"{features.name}" holds {features.dtype}, not numbers. Save it as float32 or uint8.')
        if features.shape[1:] != parts[0][0].shape[1:]:
            raise _not(f'"{parts[0][0].name}" and "{features.name}" hold items of different shapes.')
    rank = len(parts[0][0].shape)
    if rank == 2:
        return _table(reading, parts)
    if rank in (3, 4):
        return _images(reading, parts, arrays.get("value_range"))
    raise _not(
        f'"{parts[0][0].name}" has {rank} axes. Tables want [items, features], images [items, height, width] '
        "or [items, channels, height, width]."
    )


Part = tuple[Stored, Stored, int | None]


def _parts(arrays: dict[str, Stored]) -> list[Part]:
    """(features, labels, split): one part without a split, or a training and a test part."""
    given = [
        (arrays.get(f"x_{part}"), arrays.get(f"y_{part}"), s) for part, s in (("train", TRAIN), ("test", HELD_OUT))
    ]
    if all(features and labels for features, labels, _ in given):
        return given  # type: ignore[return-value]
    features = next((arrays[name] for name in FEATURE_NAMES if name in arrays), None)
    labels = next((arrays[name] for name in LABEL_NAMES if name in arrays), None)
    if features is None or labels is None:
        raise _not(
            f"it holds {', '.join(sorted(arrays)) or 'no arrays'}. Name the items {' or '.join(FEATURE_NAMES[:3])} "
            f'and their classes {" or ".join(LABEL_NAMES[:2])}: np.savez("data.npz", features=x, labels=y).'
        )
    return [(features, labels, None)]


def _label_texts(labels: Stored) -> list[str]:
    values = labels.whole()
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.floor(values)).any():
            raise _not(
                f'"{labels.name}" holds fractions such as {values[values != np.floor(values)][:1]}, not classes.'
            )
        values = values.astype(np.int64)
    if values.dtype.kind not in "iubUS":
        raise _not(f'"{labels.name}" holds {values.dtype}. Labels are whole numbers or texts.')
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _table(reading: Reading, parts: list[Part]) -> Read:
    columns = parts[0][0].shape[1]
    items = ItemWriter(reading.tree, (columns,))
    for row, (values, label, split) in enumerate(_rows(reading, parts), 1):
        broken = np.flatnonzero(~np.isfinite(values))
        if len(broken):
            reading.problems.add(row, f"Row {row:,} can't be used: its value {broken[0] + 1} is {values[broken[0]]}.")
        else:
            items.add(values, label, split)
    return Read("table", "rows", items, {"feature_names": [f"feature_{index}" for index in range(columns)]})


def _rows(reading: Reading, parts: list[Part]) -> Iterator[tuple[NDArray[Any], str, int | None]]:
    total, done = sum(features.shape[0] for features, _, _ in parts), 0
    for features, labels, split in parts:
        names = iter(_label_texts(labels))
        for block in features.blocks():
            for values in block:
                yield values, next(names), split
            done += len(block)
            reading.progress(done, total)


def _images(reading: Reading, parts: list[Part], declared: Stored | None) -> Read:
    shape = parts[0][0].shape[1:]
    last = len(shape) == 3 and shape[2] in CHANNELS and shape[0] not in CHANNELS
    final = (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2]) if last else shape
    if final[0] not in CHANNELS:
        raise _not(f"its images have shape {list(shape)}; the first or last axis must be 1, 3 or 4 channels.")
    lowest, highest, whole = _value_range(parts)
    unit = lowest >= 0 and highest <= 1 and not whole
    if lowest < 0 or highest > BYTE_MOST or not (whole or unit):
        raise _not(
            f"its image values lie between {lowest:g} and {highest:g}. "
            "Images are stored as bytes: scale them to 0..255 (whole numbers) or 0..1, and upload again."
        )
    items = ItemWriter(reading.tree, final, "u1")
    for values, label, split in _rows(reading, parts):
        image = np.rint(values * BYTE_MOST) if unit else values
        image = np.moveaxis(image, 2, 0) if last else image.reshape(final)
        items.add(image.astype(np.uint8), label, split)
    notes = ["Values between 0 and 1 were stored as bytes between 0 and 255."] if unit else []
    facts = {"value_range": [0, BYTE_MOST] if unit else _stated_range(declared, highest)}
    return Read("image", "images", items, facts, notes)


def _value_range(parts: list[Part]) -> tuple[float, float, bool]:
    """Lowest, highest, and whether all are whole numbers."""
    lowest, highest, whole = math.inf, -math.inf, True
    for features, _, _ in parts:
        for block in features.blocks():
            if not np.isfinite(block).all():
                raise _not(f'"{features.name}" holds values that are not numbers (NaN or infinity).')
            lowest, highest = min(lowest, float(block.min())), max(highest, float(block.max()))
            whole = whole and (block.dtype.kind in "biu" or bool((block == np.floor(block)).all()))
    return lowest, highest, whole


def _stated_range(declared: Stored | None, highest: float) -> list[float]:
    """What the file says of itself, else 0 to 255, or to the highest value where that is far below."""
    if declared is not None and declared.shape == (2,) and declared.dtype.kind in "iuf":
        low, high = (float(value) for value in declared.whole())
        if low == 0 and highest <= high <= BYTE_MOST and high > 0:
            return [0, int(high) if high.is_integer() else high]
    return [0, BYTE_MOST if highest > BYTE_MOST // 2 else max(1, int(highest))]
