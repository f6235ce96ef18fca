"""Query parameters that are no filters, read strictly."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime
from rest_framework.request import Request

from apps.core import ids
from apps.core.checks import whole
from apps.core.errors import invalid

LARGEST = 2**53


def whole_number(request: Request, name: str, default: Any, minimum: int, maximum: int = LARGEST) -> Any:
    """Raises Invalid unless it is a whole number between the two, or absent."""
    text = request.query_params.get(name, "")
    if not text:
        return default
    number = whole(text)
    if number is None or not minimum <= number <= maximum:
        detail = f"“{text[:40]}” is no whole number from {minimum:,} to {maximum:,}."
        raise invalid(name, detail, f"{minimum} would work.")
    return number


def time(request: Request, name: str) -> datetime | None:
    """A time with its zone. Raises Invalid unless it is one, or absent."""
    text = request.query_params.get(name, "").replace(" ", "+")
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise invalid(name, f"“{text[:40]}” is no time with a zone.", "“2026-11-25T10:00:00Z” would be one.")
    return found


def yes(request: Request, name: str) -> bool:
    """Raises Invalid unless it is true, false, or absent, which is false."""
    text = request.query_params.get(name, "")
    if text.lower() not in {"", "true", "false"}:
        raise invalid(name, f"“{text[:40]}” is neither true nor false.", f"{name}=true would work.")
    return text.lower() == "true"


def any_row_id(text: str, field: str) -> UUID:
    """The id of a row of whatever kind. Raises Invalid."""
    try:
        return ids.parse(text.partition("_")[0], text)
    except ValueError as error:
        raise invalid(field, str(error), "Send an id as the API shows it.") from error
