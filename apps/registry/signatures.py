"""What is kept of the files that a training left: pages count on their shape, and a script may write any."""

from __future__ import annotations

from typing import Any

DATATYPES = frozenset(
    {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"}
)
LARGEST_DIMENSION = 2**31 - 1
MOST_FIGURES = 200


def signature_from(content: dict[str, Any]) -> dict[str, Any]:
    """A signature.json as it is; {} where any part that is shown or counted on has not its shape."""
    tensors = [content.get("inputs"), content.get("outputs")]
    classes, normalise = content.get("classes", []), content.get("normalise", {})
    sound = (
        all(isinstance(side, list) and all(map(_is_tensor, side)) for side in tensors)
        and isinstance(content.get("task", ""), str)
        and isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and isinstance(normalise, dict)
        and is_figure(normalise.get("scale", 1.0))
    )
    return content if sound else {}


def _is_tensor(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and str(value.get("datatype")) in DATATYPES
        and isinstance(value.get("shape"), list)
        and all(
            isinstance(size, int) and not isinstance(size, bool) and -1 <= size <= LARGEST_DIMENSION
            for size in value["shape"]
        )
    )


def figures_from(content: dict[str, Any]) -> dict[str, float]:
    """The numbers of a metrics.json, by name; all else is left out."""
    sound = [(name, value) for name, value in content.items() if is_figure(value) and 0 < len(name) <= 60]
    return dict(sound[:MOST_FIGURES])


def is_figure(value: object) -> bool:
    """Whether it is a number that a column of doubles can hold; a whole number may be larger than any double."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e308
