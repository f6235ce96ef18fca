"""Filters of lists, by django-filter: ids are typed ones of this workspace, unknown names are errors."""

from __future__ import annotations

import difflib
from typing import Any

import django_filters
from django.db.models import Model, QuerySet
from django_filters.rest_framework import DjangoFilterBackend

from apps.core.checks import related
from apps.core.errors import FieldError, Invalid

KNOWN = frozenset({"cursor", "limit", "format"})


class RelatedFilter(django_filters.CharFilter):
    """Rows that refer to the one with this id."""

    def __init__(self, related_model: type[Model], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.related_model = related_model

    def filter(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        if not value:
            return queryset
        parent: Any = self.parent
        workspace = parent.request.parser_context["view"].workspace
        row = related(self.related_model, workspace, value, self.field_name or "")
        return queryset.filter(**{str(self.field_name): row.pk})


class PhaseFilter(django_filters.BaseInFilter, django_filters.CharFilter):
    """One phase, or several with commas."""


class ManagedFilters(django_filters.FilterSet):
    phase = PhaseFilter(field_name="phase", lookup_expr="in")
    created_after = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")


class StrictFilters(DjangoFilterBackend):
    """A parameter that is no filter here is refused: a mistyped one would answer with everything."""

    def filter_queryset(self, request: Any, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        filterset = self.get_filterset_class(view, queryset)
        names = [*(filterset.base_filters if filterset else ()), *KNOWN]
        errors = []
        for name in request.query_params:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                fix = f"Did you mean “{near[0]}”?" if near else f"There are: {', '.join(sorted(names))}."
                errors.append(FieldError(name, f"“{name[:60]}” is no filter of this list.", fix))
        if errors:
            raise Invalid(*errors)
        return super().filter_queryset(request, queryset, view)
