"""The figures of an export's certificate, and the limits a user may set. Standard library only.

One table for the export program, the API and the pages, so that a figure has one name, unit and title everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["at_most", "at_least"]
Optimisation = Literal["none", "dynamic_int8"]
OPTIMISATIONS: dict[str, str] = {"none": "ONNX", "dynamic_int8": "ONNX, dynamic int8"}

USED_CAP = 10.0
"""The most that a certificate says of a limit's use, so that a limit of 0 stays a number in JSON."""


@dataclass(frozen=True)
class Figure:
    """`unit` of the figure and its limit: share (0 to 1), bytes, milliseconds or "" (that of the model's output).

    The limit of `accuracy_drop` is for the share lost (0.01 is one point), while before and after show the accuracy.
    `default_limits` by optimisation; an absent one means: measured and shown, judged only if the user sets a limit.
    """

    name: str
    title: str
    unit: str
    direction: Direction
    group: Literal["same", "gained"]
    default_limits: Mapping[str, float]
    highest_limit: float = math.inf

    def used(self, value: float, limit: float) -> float:
        """The share of the tolerance that `value` takes: up to 1 it holds. Of "at least 0.99", 0.995 uses half."""
        taken, allowed = (max(0.0, value), limit) if self.direction == "at_most" else (max(0.0, 1 - value), 1 - limit)
        if taken <= 0:
            return 0.0
        return min(USED_CAP, taken / allowed) if allowed > 0 else USED_CAP

    def holds(self, value: float, limit: float) -> bool:
        """False for NaN: a figure that is not known is not inside a tolerance."""
        return value <= limit if self.direction == "at_most" else value >= limit


FIGURES: tuple[Figure, ...] = (
    Figure("accuracy_drop", "Accuracy", "share", "at_most", "same", {"none": 0.01, "dynamic_int8": 0.01}, 1.0),
    Figure(
        "agreement",
        "Same answer as the original",
        "share",
        "at_least",
        "same",
        {"none": 0.99, "dynamic_int8": 0.99},
        1.0,
    ),
    Figure(
        "max_abs_difference", "Largest output difference", "", "at_most", "same", {"none": 1e-4, "dynamic_int8": 0.5}
    ),
    Figure("size_bytes", "File size", "bytes", "at_most", "gained", {}),
    Figure("latency_p50_ms", "Latency p50, batch 1", "milliseconds", "at_most", "gained", {}),
    Figure("latency_p99_ms", "Latency p99, batch 1", "milliseconds", "at_most", "gained", {}),
)
FIGURE_BY_NAME: dict[str, Figure] = {figure.name: figure for figure in FIGURES}


def complete(given: object, optimisation: str) -> dict[str, float]:
    """The limits to judge by: the defaults of `optimisation` with those `given` over them.

    Raises ValueError, fit for a user to read, for an unknown optimisation or figure or an impossible limit.
    """
    if optimisation not in OPTIMISATIONS:
        raise ValueError(f'The optimisation "{optimisation}" is not known. Use {" or ".join(OPTIMISATIONS)}.')
    if not isinstance(given, Mapping):
        raise ValueError(f'The tolerances must be an object, such as {{"agreement": 0.99}}, and are {given!r}.')
    limits = {f.name: f.default_limits[optimisation] for f in FIGURES if optimisation in f.default_limits}
    for name, limit in given.items():
        figure = FIGURE_BY_NAME.get(name)
        if figure is None:
            raise ValueError(f'The certificate has no figure "{name}". Set one of {", ".join(FIGURE_BY_NAME)}.')
        number = isinstance(limit, int | float) and not isinstance(limit, bool) and math.isfinite(limit)
        if not number or not 0 <= limit <= figure.highest_limit:
            most = "" if math.isinf(figure.highest_limit) else f" and at most {figure.highest_limit:g}"
            example = figure.default_limits.get(optimisation, 100)
            raise ValueError(
                f"The limit of {name} must be a number of at least 0{most}, and is {limit!r}. {example:g} would work."
            )
        limits[name] = float(limit)
    return limits
