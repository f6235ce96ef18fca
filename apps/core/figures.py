"""How figures are written, on pages and in messages alike: 1,797; 94.1%; 97.8 MB; 46 min 20 s; $2.04; −0.25."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

UNKNOWN = "not known"
MINUS = "\N{MINUS SIGN}"
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def number(value: float | None, digits: int | None = None) -> str:
    """1,797 or 0.0015: commas, a point, at most four figures unless `digits` after the point are asked for."""
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{MINUS if value < 0 else ''}infinite"
    if digits is not None:
        text = f"{value:,.{digits}f}"
    elif float(value).is_integer() and abs(value) < 1e15:
        text = f"{int(value):,}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) >= 1e-4:
        text = f"{value:.4g}"
    else:
        mantissa, exponent = f"{value:.1e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def percent(share: float | None, digits: int = 1) -> str:
    """0.941 is 94.1%."""
    return UNKNOWN if share is None else f"{number(share * 100, digits)}%"


def delta(value: float | None, digits: int = 2, unit: str = "") -> str:
    """With its sign, a true minus: −0.25 points. What rounds to nothing has no sign."""
    if value is None:
        return UNKNOWN
    rounded = round(value, digits)
    sign = "+" if rounded > 0 else ""
    return f"{sign}{number(rounded or 0.0, digits)}{f' {unit}' if unit else ''}"


def points(share: float | None, digits: int = 2) -> str:
    """A difference of two shares, in points: −0.0025 is −0.25 points."""
    return UNKNOWN if share is None else delta(share * 100, digits, "points")


def file_size(size_bytes: float | None) -> str:
    """In powers of 1,000, as files are sold and sent: 461 KB, 97.8 MB."""
    return _bytes(size_bytes, 1000, ("bytes", "KB", "MB", "GB", "TB", "PB"))


def memory(size_bytes: float | None) -> str:
    """In powers of 1,024: 24.5 GiB."""
    return _bytes(size_bytes, 1024, ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _bytes(size: float | None, step: int, names: tuple[str, ...]) -> str:
    if size is None:
        return UNKNOWN
    value, name = float(size), names[0]
    for name in names:
        if abs(value) < step * 0.9995 or name == names[-1]:
            break
        value /= step
    digits = 0 if name == names[0] or abs(value) >= 99.95 else 1
    return f"{number(value, digits).removesuffix('.0')} {'byte' if name == 'bytes' and size == 1 else name}"


def duration(seconds: float | None) -> str:
    """Two units at most: 46 min 20 s; 2 d 17 h; 1.4 s; 61 ms."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0:
        return MINUS + duration(-seconds)
    if 0 < seconds < 0.0995:
        return milliseconds(seconds * 1000)
    if seconds < 9.95:
        return f"{number(seconds, 1).removesuffix('.0')} s"
    left = round(seconds)
    index = next(index for index, (size, _) in enumerate(UNITS) if left >= size)
    size, name = UNITS[index]
    if size == 1:
        return f"{left} s"
    small_size, small_name = UNITS[index + 1]
    # Rounded to the smaller unit before it is split, so that 59 min 59.6 s never reads "59 min 60 s".
    whole = round(left / small_size) * small_size
    big, small = whole // size, whole % size // small_size
    if index and big * size >= UNITS[index - 1][0]:
        return f"1 {UNITS[index - 1][1]}"
    return f"{big:,} {name} {small} {small_name}" if small else f"{big:,} {name}"


def milliseconds(value: float | None) -> str:
    """61 ms, 2.3 ms, 0.04 ms; from 10 s on as a duration."""
    if value is None:
        return UNKNOWN
    if value >= 10_000:
        return duration(value / 1000)
    digits = 0 if value >= 99.5 else 1 if value >= 1 else 2
    return f"{number(value, digits).removesuffix('.0')} ms"


def money(usd: float | None) -> str:
    """$2.04; from a thousand on without cents; under a cent with at least four places, and never rounded to nothing."""
    if usd is None:
        return UNKNOWN
    sign, value = (MINUS if usd < 0 else ""), abs(float(usd))
    if value == 0:
        return "$0.00"
    if value >= 999.995:
        return f"{sign}${value:,.0f}"
    if value >= 0.00995:
        return f"{sign}${value:.2f}"
    places = max(4, 1 - math.floor(math.log10(value)))
    return f"{sign}${value:.{places}f}"


def rate(usd_per_hour: float | None) -> str:
    return UNKNOWN if usd_per_hour is None else f"{money(usd_per_hour)}/h"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """14 s ago, 3 h ago, in 5 min: one unit. Both times carry their zone."""
    if moment is None:
        return "not yet"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    distance = abs(seconds)
    if distance < 1:
        return "now"
    size, name = next(((size, name) for size, name in UNITS if distance >= size), UNITS[-1])
    text = f"{int(distance // size):,} {name}"
    return f"in {text}" if seconds < 0 else f"{text} ago"


def short_id(typed: str, characters: int = 10) -> str:
    """run_01k7fz3m9q: a typed id cut for reading; the whole one belongs in `title`."""
    prefix, underscore, rest = str(typed).partition("_")
    return f"{prefix}_{rest[:characters]}" if underscore else prefix[:characters]


def short_digest(digest: str) -> str:
    """9f2c…41ab of a SHA-256."""
    text = str(digest).removeprefix("sha256:")
    return f"{text[:4]}…{text[-4:]}" if len(text) > 12 else text


def count(value: int | None, noun: str, plural: str = "") -> str:
    """1 image, 1,797 images."""
    if value is None:
        return UNKNOWN
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def some_of(names: Sequence[str], shown: int = 3) -> str:
    """The first few of them, and how many more there are: “a, b, c and 2 more”."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
