"""Lists: {"items": [...], "next": url or null}, newest first, by a cursor that stays right while rows are added."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from apps.core.checks import whole
from apps.core.errors import invalid


class NewestFirst(CursorPagination):
    """Ids grow with time, so that their order is that of creation."""

    ordering = "-pk"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    page_size_query_description = "How many items, 1 to 200."
    cursor_query_description = "Where to go on: take `next` of the page before."

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> list[Any] | None:
        limit = request.query_params.get(self.page_size_query_param, "")
        if limit and not 1 <= (whole(limit) or 0) <= self.max_page_size:
            raise invalid("limit", f"“{limit[:40]}” is no page size.", f"Use 1 to {self.max_page_size}.")
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, ValidationError, ValueError, TypeError) as error:
            raise invalid("cursor", "This cursor is not one of ours.", "Take “next” of the page before.") from error

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"items": data, "next": self.get_next_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["items", "next"],
            "properties": {"items": schema, "next": {"type": ["string", "null"], "format": "uri"}},
        }
