"""What a user may choose about the reading of a dataset, and what every reader is given."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.inspection.prepared import ItemWriter, Problems, SplitRule
from workers.inspection.program import Program, Refused

PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class Options:
    """`image_size`: (height, width) to resize all images to, or None for the most common size."""

    filename: str
    split: SplitRule
    label_column: str | None
    image_size: tuple[int, int] | None
    skip_bad_rows: bool

    @classmethod
    def from_hyperparameters(cls, given: dict[str, Any]) -> Options:
        """Raises Refused for a value that can't be."""
        fraction, seed, size = given.get("held_out_fraction", 0.2), given.get("seed", 7), given.get("image_size")
        label_column = given.get("label_column")
        if not _is_number(fraction) or not 0 < fraction < 1:
            raise _bad(f"held_out_fraction must lie between 0 and 1, and is {fraction!r}. 0.2 would work.")
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise _bad(f"seed must be a whole number of at least 0, and is {seed!r}. 7 would work.")
        sides = [size, size] if isinstance(size, int) else size
        if sides is not None and not (
            isinstance(sides, list) and len(sides) == 2 and all(isinstance(s, int) and 1 <= s <= 4096 for s in sides)
        ):
            raise _bad(f"image_size must be a number of pixels from 1 to 4096 or [height, width], and is {size!r}.")
        if label_column is not None and not isinstance(label_column, str):
            raise _bad(f"label_column must be the name of a column, and is {label_column!r}.")
        return cls(
            filename=str(given.get("filename") or "upload"),
            split=SplitRule(float(fraction), seed),
            label_column=label_column or None,
            image_size=(sides[0], sides[1]) if sides else None,
            skip_bad_rows=bool(given.get("skip_bad_rows", False)),
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bad(message: str) -> Refused:
    return Refused("BadHyperparameters", message)


@dataclass
class Reading:
    """One upload being read: where it is, where its items go, and what is wrong with it."""

    upload: Path
    tree: Path
    options: Options
    program: Program
    problems: Problems = field(default_factory=Problems)
    said_at: float = 0.0

    def progress(self, done: int, total: int) -> None:
        """At most once a second, and at the end."""
        if done == total or time.monotonic() - self.said_at >= PROGRESS_SECONDS:
            self.said_at = time.monotonic()
            self.program.progress(done, total)


@dataclass(frozen=True)
class Read:
    """`noun`: what an item is called in sentences. `facts` go into dataset.json, `notes` into the report."""

    kind: str
    noun: str
    items: ItemWriter
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
