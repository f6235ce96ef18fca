"""Lists of things: filters and pages, both in the URL, so that a reload and a shared link show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

from apps.core import ids

PAGE_ROWS = 50


@dataclass(frozen=True)
class Chip:
    """A choice of a filter; `url` chooses it, or takes it back where it is `current`."""

    label: str
    url: str
    current: bool


@dataclass(frozen=True)
class Listing:
    """`older`: the address of the next page, "" on the last one. `filtered`: some filter is set."""

    rows: list[Any]
    chips: list[Chip]
    older: str
    first: str
    filtered: bool


def listing(
    request: HttpRequest,
    rows: QuerySet[Any, Any],
    prefix: str,
    filters: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> Listing:
    """The newest rows first. `filters`: by query parameter, by label, the values that it lets through."""
    chips: list[Chip] = []
    filtered = False
    for name, choices in (filters or {}).items():
        chosen = request.GET.get(name, "")
        for label, values in choices.items():
            key = label.lower().replace(" ", "-")
            chips.append(Chip(label, _with(request, name, "" if chosen == key else key), chosen == key))
            if chosen == key:
                rows, filtered = rows.filter(**{f"{name}__in": list(values)}), True
    before = request.GET.get("before", "")
    if before:
        try:
            rows = rows.filter(pk__lt=ids.parse(prefix, before))
        except ValueError:
            before = ""  # somebody else's address: begin at the top
    found = list(rows.order_by("-pk")[: PAGE_ROWS + 1])
    more = len(found) > PAGE_ROWS
    found = found[:PAGE_ROWS]
    older = _with(request, "before", found[-1].typed_id) if more else ""
    return Listing(found, chips, older, _with(request, "before", "") if before else "", filtered)


def _with(request: HttpRequest, name: str, value: str) -> str:
    query: QueryDict = request.GET.copy()
    query.pop("before", None)
    query.pop(name, None)
    if value:
        query[name] = value
    return f"?{query.urlencode()}" if query else request.path
