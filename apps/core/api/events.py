"""Events: what became of every row, and by whom."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers

from apps.accounts.models import Role
from apps.core import ids
from apps.core.api.parameters import any_row_id
from apps.core.api.views import Listed, WorkspaceView
from apps.core.models import Event
from apps.core.wants import models_by_kind


class EventSerializer(serializers.ModelSerializer[Event]):
    row = serializers.SerializerMethodField(help_text="The id of what it happened to.")

    class Meta:
        model = Event
        fields = ("id", "kind", "row", "at", "actor", "actor_name", "request_id", "old", "new", "reason", "message")

    def get_row(self, event: Event) -> str:
        model = models_by_kind().get(event.kind)
        return ids.typed(model.prefix, event.row_id) if model else str(event.row_id)


class EventFilters(django_filters.FilterSet):
    kind = django_filters.ChoiceFilter(choices=lambda: [(kind, kind) for kind in sorted(models_by_kind())])
    row = django_filters.CharFilter(method="by_row")
    actor = django_filters.CharFilter()
    reason = django_filters.CharFilter()
    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")

    def by_row(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return queryset.filter(row_id=any_row_id(value, name))


class EventView(Listed, WorkspaceView):
    """Append-only; kept for 90 days."""

    model = Event
    rules: ClassVar = {"list": Role.VIEWER.value}
    serializer_class = EventSerializer
    filterset_class = EventFilters
