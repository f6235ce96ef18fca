"""What the long tests measure: one JSON object a figure, as the last lines of a run; a run fails if one misses."""

from __future__ import annotations

import json
from typing import Any

MEASURED: list[dict[str, Any]] = []


def measured(figure: str, value: float | None, unit: str, goal: str, holds: bool) -> None:
    """`goal` in words ("reported" where there is none); `holds`: whether `value` meets it."""
    line = {"figure": figure, "value": value, "unit": unit, "goal": goal, "holds": holds}
    MEASURED.append(line)
    print(json.dumps(line), flush=True)


def missed() -> list[str]:
    return [line["figure"] for line in MEASURED if not line["holds"]]
