"""What a program wrote, made fit to be kept: neither PostgreSQL nor JSON has all that a program may write.

Standard library only, as `workload.py`. A NaN or a NUL from one script must never stop the rows of a whole host.
"""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(content: bytes | str) -> Any:
    """NaN and infinite numbers become None, and texts are as `plain` gives them. Raises ValueError for no JSON."""
    try:
        return storable(json.loads(content, parse_constant=lambda _name: None, parse_float=_finite))
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error


def plain(text: str) -> str:
    """Without control characters (but line ends and tabs) and half characters."""
    kept = "".join(character for character in text if character >= " " or character in "\n\t")
    return kept.encode("utf-8", "replace").decode()


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def storable(value: Any) -> Any:
    """As a JSON column gives it back: lists for tuples, and every text as `plain` gives it."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {plain(name): storable(item) for name, item in value.items()}
    return value
