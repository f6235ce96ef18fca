"""Checks of values that people choose, shared by the services; each adds to a list of errors, so that all are told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from django.db import connection, models

from apps.core import ids
from apps.core.errors import FieldError, Missing, invalid
from apps.core.models import Managed
from apps.core.phases import DELETED

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
DIGITS = re.compile(r"[0-9]{1,18}")
Row = TypeVar("Row", bound=models.Model)


def name_errors(field: str, name: str) -> list[FieldError]:
    """A name of lower-case letters, digits and hyphens, as it can stand in a URL; 1 to 63 characters."""
    if NAME.fullmatch(name):
        return []
    suggestion = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9]+", "-", name.lower())).strip("-")[:63].strip("-")
    detail = f"“{name[:80]}” is no name: use lower-case letters, digits and hyphens inside, at most 63 characters."
    return [FieldError(field, detail, f"“{suggestion or 'digits'}” would work.")]


def whole(text: str) -> int | None:
    """The number that a text of digits is; None for any other, and for one that no column could hold."""
    return int(text) if DIGITS.fullmatch(text) else None


def range_errors(field: str, value: float, minimum: float, maximum: float, unit: str = "") -> list[FieldError]:
    """`value` must lie between the two, both included."""
    if minimum <= value <= maximum:
        return []
    word = "small" if value < minimum else "large"
    unit = f" {unit}" if unit else ""
    shown, low, high = (f"{number:,}" for number in (value, minimum, maximum))
    return [FieldError(field, f"{shown}{unit} is too {word}.", f"Use {low} to {high}{unit}.")]


def related(model: type[Row], workspace: Any, typed_id: str, field: str, select: Sequence[str] = ()) -> Row:
    """The row that an id in a body or a filter names, if it is of this workspace and not deleted; else Invalid."""
    prefix = model.prefix  # type: ignore[attr-defined]
    title = getattr(model, "title", "") or str(model._meta.verbose_name)
    try:
        row_id = ids.parse(prefix, str(typed_id))
    except ValueError as error:
        raise invalid(field, str(error), f"Send the id of a {title} of this workspace.") from error
    found = visible(model, workspace).select_related(*select).filter(pk=row_id).first()
    if found is None:
        raise invalid(field, f"There is no {title} {typed_id} in this workspace.", "Check the id, or list them first.")
    return found


def find(model: type[Row], workspace: Any, typed_id: str, select: Sequence[str] = ()) -> Row:
    """The row that an id in a URL names. Raises Missing, in the same words for other workspaces' rows."""
    try:
        return related(model, workspace, typed_id, "id", select)
    except Exception as error:
        title = getattr(model, "title", "") or str(model._meta.verbose_name)
        raise Missing(f"There is no {title} “{str(typed_id)[:60]}” in this workspace.") from error


def visible(model: type[Row], workspace: Any) -> models.QuerySet[Row, Row]:
    """All rows of a workspace that are not deleted."""
    rows = model._default_manager.filter(workspace=workspace)
    return rows.exclude(phase=DELETED) if issubclass(model, Managed) else rows


def next_number(rows: models.QuerySet[Any, Any], scope: str) -> int:
    """The number after the highest of `rows`; the scope stays locked until the caller's transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [scope])
    highest = rows.aggregate(models.Max("number"))["number__max"]
    return (highest or 0) + 1
