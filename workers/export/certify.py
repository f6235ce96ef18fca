"""The certificate's figures: before, after, the change, and whether that is inside the limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.exports.tolerances import FIGURES, Figure
from workers.export.held_out import HeldOut
from workers.export.measure import Answers, Latency


@dataclass(frozen=True)
class Value:
    """A figure as measured. `judged` is what the limit is compared with: NaN if it is not known."""

    before: float | None
    after: float | None
    change: float | None
    judged: float
    note: str = ""


def values(
    answers: Answers, held_out: HeldOut, sizes: tuple[int, int], latency: tuple[Latency, Latency]
) -> dict[str, Value]:
    """By the names of `apps.exports.tolerances`; those that this model has not are absent."""
    largest = math.nan if answers.not_finite else answers.max_abs_difference
    note = f"{answers.not_finite:,} answers are not numbers" if answers.not_finite else ""
    found = {
        "max_abs_difference": Value(
            None, finite(largest), finite(largest), largest, note or f"mean {answers.mean_abs_difference:.2g}"
        ),
        "size_bytes": _compared(*sizes),
        "latency_p50_ms": _compared(latency[0].p50_ms, latency[1].p50_ms),
        "latency_p99_ms": _compared(latency[0].p99_ms, latency[1].p99_ms),
    }
    if answers.before is not None and answers.after is not None:
        items = held_out.items
        differ = int((answers.before != answers.after).sum())
        right_before = int((answers.before == held_out.labels).sum())
        right_after = int((answers.after == held_out.labels).sum())
        found["accuracy_drop"] = Value(
            right_before / items,
            right_after / items,
            (right_after - right_before) / items,
            (right_before - right_after) / items,
            f"{right_after:,} of {items:,} right",
        )
        found["agreement"] = Value(
            None, (items - differ) / items, -differ / items, (items - differ) / items, f"{differ:,} of {items:,} differ"
        )
    return found


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _compared(before: float, after: float) -> Value:
    return Value(before, after, after - before, after)


def figures(found: dict[str, Value], limits: dict[str, float]) -> list[dict[str, Any]]:
    """The certificate's table, in the order of the pages. A figure without a limit always holds."""
    return [_row(figure, found[figure.name], limits.get(figure.name)) for figure in FIGURES if figure.name in found]


def _row(figure: Figure, value: Value, limit: float | None) -> dict[str, Any]:
    known = math.isfinite(value.judged)
    return {
        "name": figure.name,
        "title": figure.title,
        "unit": figure.unit,
        "group": figure.group,
        "before": value.before,
        "after": value.after,
        "change": value.change,
        "note": value.note,
        "limit": limit,
        "direction": figure.direction,
        "used": None if limit is None or not known else round(figure.used(value.judged, limit), 4),
        "holds": limit is None or figure.holds(value.judged, limit),
    }


def by_class(answers: Answers, held_out: HeldOut) -> list[dict[str, Any]]:
    """Where the answers changed; the class is the item's own, not the one chosen."""
    if answers.before is None or answers.after is None:
        return []
    right_before, right_after = answers.before == held_out.labels, answers.after == held_out.labels
    changed = answers.before != answers.after
    rows = []
    for index, name in enumerate(held_out.classes):
        here = held_out.labels == index
        items = int(here.sum())
        rows.append(
            {
                "class": name,
                "items": items,
                "accuracy_before": _mean(right_before[here]),
                "accuracy_after": _mean(right_after[here]),
                "changed": int(changed[here].sum()),
                "became_right": int((right_after & ~right_before)[here].sum()),
                "became_wrong": int((right_before & ~right_after)[here].sum()),
            }
        )
    return rows


def _mean(truths: NDArray[np.bool_]) -> float | None:
    return float(truths.mean()) if len(truths) else None
