"""A certificate's verdict in words."""

from __future__ import annotations

import math
from typing import Any

CLOSE_TO_LIMIT = 0.8


def why(table: list[dict[str, Any]], classes: list[dict[str, Any]], items: int, optimisation: str) -> str:
    """The verdict in at most three sentences: what is outside, where, and what would work."""
    broken = [row for row in table if not row["holds"]]
    if not broken:
        judged = [row for row in table if row["limit"] is not None]
        close = [row["title"].lower() for row in judged if row["used"] >= CLOSE_TO_LIMIT]
        ending = f"; {' and '.join(close)} close to the limit." if close else "."
        gain = _gain({row["name"]: row for row in table}) if optimisation != "none" else ""
        inside = {0: "No figure has a tolerance", 1: "The one figure is inside your tolerance"}
        return gain + inside.get(len(judged), f"All {len(judged)} figures are inside your tolerances") + ending
    # Changed answers say most: they name the class. Then what is lost, then the rest.
    order = ["agreement", "accuracy_drop"]
    broken.sort(key=lambda row: order.index(row["name"]) if row["name"] in order else len(order))
    others = [row["title"].lower() for row in broken[1:]]
    also = f"{' and '.join(others).capitalize()} {'is' if len(others) == 1 else 'are'} outside too." if others else ""
    return " ".join(
        filter(None, [f"Rejected: {_said(broken[0])}", _where(classes, items), also, _advice(broken, optimisation)])
    )


def _gain(rows: dict[str, dict[str, Any]]) -> str:
    size, latency, accuracy = rows["size_bytes"], rows["latency_p50_ms"], rows.get("accuracy_drop")
    lost = "" if accuracy is None else f", for {max(0.0, -accuracy['change']) * 100:.2f} points of accuracy"
    return f"{_times(size, 'smaller', 'larger')} and {_times(latency, 'faster', 'slower')}{lost}. "


def _times(row: dict[str, Any], less: str, more: str) -> str:
    low, high = sorted((row["before"], row["after"]))
    return f"{high / low:.1f} times {less if row['after'] <= row['before'] else more}"


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
