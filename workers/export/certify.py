"""The certificate: figures before and after, their limits, and the verdict in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.exports.tolerances import FIGURES, Figure
from workers.export.held_out import HeldOut
from workers.export.measure import Answers, Latency

CLOSE_TO_LIMIT = 0.8


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


def why(table: list[dict[str, Any]], classes: list[dict[str, Any]], items: int, optimisation: str) -> str:
    """The verdict in at most three sentences: what is outside, where, and what would work."""
    broken = [row for row in table if not row["holds"]]
    if not broken:
        judged = [row for row in table if row["limit"] is not None]
        close = [row["title"].lower() for row in judged if row["used"] >= CLOSE_TO_LIMIT]
        ending = f"; {' and '.join(close)} close to the limit." if close else "."
        inside = {0: "No figure has a tolerance", 1: "The one figure is inside your tolerance"}
        return inside.get(len(judged), f"All {len(judged)} figures are inside your tolerances") + ending
    # Changed answers say most: they name the class. Then what is lost, then the rest.
    order = ["agreement", "accuracy_drop"]
    broken.sort(key=lambda row: order.index(row["name"]) if row["name"] in order else len(order))
    others = [row["title"].lower() for row in broken[1:]]
    also = f"{' and '.join(others).capitalize()} {'is' if len(others) == 1 else 'are'} outside too." if others else ""
    return " ".join(
        filter(None, [f"Rejected: {_said(broken[0])}", _where(classes, items), also, _advice(broken, optimisation)])
    )


def _where(classes: list[dict[str, Any]], items: int) -> str:
    changed = sum(row["changed"] for row in classes)
    if not changed:
        return ""
    worst = max(classes, key=lambda row: row["changed"])
    return f'{changed:,} of {items:,} changed, {worst["changed"]:,} of them in "{worst["class"]}".'


def _said(row: dict[str, Any]) -> str:
    limit = row["limit"]
    if row["after"] is None:
        return f"{row['note']}."
    if row["name"] == "agreement":
        share, asked = percent_apart(row["after"], limit)
        return f"{share} of answers stayed the same, you asked for {asked}."
    if row["name"] == "accuracy_drop":
        lost, allowed = points_apart(-row["change"], limit)
        return f"accuracy fell by {lost} points to {row['after']:.2%}, you allowed {allowed}."
    if row["name"] == "max_abs_difference":
        return f"the largest output difference is {row['after']:.3g}, you allowed {limit:.3g}."
    unit = {"bytes": " bytes", "milliseconds": " ms"}.get(row["unit"], "")
    number = "{:,.0f}" if row["unit"] == "bytes" else "{:,.3g}"
    return f"{row['title'].lower()} is {number.format(row['after'])}{unit}, you allowed {number.format(limit)}{unit}."


def _advice(broken: list[dict[str, Any]], optimisation: str) -> str:
    if any(row["after"] is None for row in broken):
        return 'Export with the optimisation "none".' if optimisation != "none" else "Train the model again."
    tolerances = ", ".join(f"{row['name']} {_that_would_hold(row)}" for row in broken)
    if optimisation == "none":
        return f"Allow {tolerances}, and export again."
    return f'Export with the optimisation "none", or allow {tolerances}.'


def _that_would_hold(row: dict[str, Any]) -> str:
    """The limit of three digits, rounded to the side that lets this result pass."""
    value = -row["change"] if row["name"] == "accuracy_drop" else row["after"]
    if row["direction"] == "at_least":
        return f"{math.floor(value * 1000) / 1000:g}"
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / step * (1 - 1e-12)) * step:.10g}"


def percent_apart(value: float, limit: float) -> tuple[str, str]:
    """Both as percentages with as few decimals (one at least) as tell them apart."""
    return _apart(value * 100, limit * 100, 1, "%")


def points_apart(value: float, limit: float) -> tuple[str, str]:
    return _apart(value * 100, limit * 100, 2, "")


def _apart(value: float, limit: float, decimals: int, unit: str) -> tuple[str, str]:
    while decimals < 6 and f"{value:.{decimals}f}" == f"{limit:.{decimals}f}":
        decimals += 1
    return f"{value:.{decimals}f}{unit}", f"{limit:.{decimals}f}{unit}"
