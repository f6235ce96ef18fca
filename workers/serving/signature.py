"""What a model takes and gives, read from signature.json, and how a shape that does not fit is explained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

DATATYPES = frozenset(
    {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"}
)


class BadModel(Exception):
    """The model can't be served. `failure`: a CamelCase code."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's name, datatype (Open Inference Protocol) and shape; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    _inner: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_inner", list(self.shape[1:]))

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    @property
    def shape_text(self) -> str:
        words = ["batch" if axis == 0 else "any" for axis in range(len(self.shape))]
        return f"[{', '.join(word if size < 0 else str(size) for word, size in zip(words, self.shape, strict=True))}]"

    @property
    def example_shape(self) -> list[int]:
        return [1 if size < 0 else size for size in self.shape]

    def fits(self, shape: list[int]) -> bool:
        if shape[1:] == self._inner and self.shape[:1] == (-1,):
            return bool(shape)
        return len(shape) == len(self.shape) and all(
            want in (-1, size) for want, size in zip(self.shape, shape, strict=True)
        )

    def how_to_fit(self, shape: list[int]) -> str:
        """One sentence on how to make `shape` fit, with a shape that would work."""
        return next(self._ways_to_fit(shape), f"Send a shape such as {self.example_shape}.")

    def _ways_to_fit(self, shape: list[int]) -> Iterator[str]:
        rank = len(self.shape)
        if len(shape) == rank - 1:
            # The batch axis comes last: where both would fit ([1, 8, 8]), the other axis is what was left out.
            for axis in (*range(1, rank), 0):
                longer = [*shape[:axis], 1, *shape[axis:]]
                if self.fits(longer):
                    name = {0: "the batch axis"}.get(axis, "the channel axis" if (axis, rank) == (1, 4) else "an axis")
                    yield f"Add {name}: {longer}."
        if len(shape) == rank + 1:
            for axis, size in enumerate(shape):
                if size == 1 and self.fits(shorter := shape[:axis] + shape[axis + 1 :]):
                    yield f"Leave out axis {axis}: {shorter}."
        if len(shape) == rank and rank <= 5:
            for order in itertools.permutations(range(1, rank)):
                moved = [shape[0], *(shape[axis] for axis in order)]
                if moved != shape and self.fits(moved):
                    yield f"Put the axes in this order: {moved}."
            wrong = [axis for axis, want in enumerate(self.shape) if want not in (-1, shape[axis])]
            if len(wrong) == 1:
                axis = wrong[0]
                yield f"Axis {axis} must be {self.shape[axis]}, not {shape[axis]}."
        yield from self._reshaped(shape)

    def _reshaped(self, shape: list[int]) -> Iterator[str]:
        one = math.prod(size for size in self.shape if size > 0)
        whole, rest = divmod(math.prod(shape), one)
        if self.shape and self.shape.count(-1) == 1 and whole > 0 and rest == 0:
            yield f"The same values fit as {[whole if size < 0 else size for size in self.shape]}."


@dataclass(frozen=True)
class Signature:
    """`classes`: the label of each logit, or empty. `facts`: all else that signature.json says (task, normalise)."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    classes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Signature:
        """Raises BadModel with a message that says what is wrong in the file."""
        try:
            content = orjson.loads(path.read_bytes())
            if not isinstance(content, dict):
                raise ValueError("it is no JSON object")
            return cls(
                inputs=_tensors(content, "inputs"),
                outputs=_tensors(content, "outputs"),
                classes=tuple(str(name) for name in content.get("classes") or ()),
                facts={name: fact for name, fact in content.items() if name not in ("inputs", "outputs")},
            )
        except OSError as error:
            raise BadModel("SignatureMissing", f"signature.json can't be read: {error.strerror}.") from error
        except (ValueError, TypeError, KeyError) as error:
            raise BadModel("BadSignature", f"signature.json can't be used: {error}.") from error


def _tensors(content: dict[str, Any], key: str) -> dict[str, TensorSpec]:
    specs = [TensorSpec(str(t["name"]), t["datatype"], tuple(int(size) for size in t["shape"])) for t in content[key]]
    if not specs:
        raise ValueError(f"{key} is empty")
    for spec in specs:
        if spec.datatype not in DATATYPES:
            raise ValueError(f'{key} "{spec.name}" has datatype {spec.datatype!r}, which the protocol does not know')
    return {spec.name: spec for spec in specs}
