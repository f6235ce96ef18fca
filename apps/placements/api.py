"""Placements, read-only, and logs: those of a placement, and of whatever owns one."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role
from apps.core import ids
from apps.core.api.fields import MANAGED_FIELDS, AnyObject, ManagedSerializer, TypedId
from apps.core.api.filters import ManagedFilters
from apps.core.api.parameters import any_row_id, whole_number
from apps.core.api.views import READ_RULES, ManagedView
from apps.core.wants import model_of, models_by_kind
from apps.placements import logs
from apps.placements.models import Place, Placement


class LogSerializer(serializers.Serializer[Any]):
    text = serializers.CharField()
    offset = serializers.IntegerField(help_text="Where `text` begins, in bytes of the stream.")
    next_offset = serializers.IntegerField(help_text="Where to go on.")
    end = serializers.BooleanField(help_text="Nothing will follow.")
    attempt = serializers.IntegerField()
    placement = serializers.CharField()
    streams = AnyObject(help_text="By stream, how many bytes are stored.")


LOG_PARAMETERS = [
    OpenApiParameter("stream", str, description="A rank or a replica: 0, 1, …", default="0"),
    OpenApiParameter("offset", int, description="From this byte on."),
    OpenApiParameter("limit", int, description="At most so many bytes, up to 1 MiB."),
    OpenApiParameter("attempt", int, description="Of this attempt; the last one if not given."),
    OpenApiParameter("revision", int, description="Of this revision of a deployment; the wanted one if not given."),
    OpenApiParameter("tail", int, description="The last so many lines instead, up to 10,000."),
]


class LogsMixin:
    """Adds /logs to a managed view."""

    @extend_schema(parameters=LOG_PARAMETERS, responses=LogSerializer, filters=False)
    @action(detail=True, url_path="logs")
    def logs(self: Any, request: Request, workspace: str, id: str) -> Response:
        """What the program wrote, as lines that begin with the time."""
        placement = logs.placement_of(
            self.get_object(),
            whole_number(request, "attempt", None, 1),
            whole_number(request, "revision", None, 1),
        )
        log = logs.read(
            placement,
            stream=request.query_params.get("stream", "0"),
            offset=whole_number(request, "offset", 0, 0),
            limit=whole_number(request, "limit", logs.LARGEST_READ_BYTES, 1, logs.LARGEST_READ_BYTES),
            tail=whole_number(request, "tail", 0, 1, 10_000),
        )
        return Response(dataclasses.asdict(log))


class PlacementSerializer(ManagedSerializer):
    owner = serializers.SerializerMethodField()
    place = TypedId(Place.prefix, source="place_id")
    host = serializers.CharField(source="place.name", read_only=True)
    resources = serializers.SerializerMethodField()
    replicas = serializers.IntegerField(source="workload.replicas", read_only=True)
    log_bytes = AnyObject(source="log_offsets", read_only=True)
    exit = serializers.SerializerMethodField()

    class Meta:
        model = Placement
        fields = (
            *MANAGED_FIELDS,
            "owner",
            "owner_kind",
            "slot",
            "attempt",
            "place",
            "host",
            "replicas",
            "ready_ordinals",
            "resources",
            "log_bytes",
            "exit",
        )

    def get_owner(self, row: Placement) -> str:
        return ids.typed(model_of(row.owner_kind).prefix, row.owner_id)

    def get_resources(self, row: Placement) -> dict[str, Any]:
        return dict(row.workload.get("resources", {}))

    def get_exit(self, row: Placement) -> dict[str, Any] | None:
        ended: dict[str, Any] | None = row.ended.get("exit")
        return ended


class PlacementFilters(ManagedFilters):
    owner = django_filters.CharFilter(method="by_owner")
    owner_kind = django_filters.ChoiceFilter(choices=lambda: [(kind, kind) for kind in sorted(models_by_kind())])

    class Meta:
        model = Placement
        fields = ("attempt", "slot")

    def by_owner(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(owner_id=any_row_id(value, name))


class PlacementView(LogsMixin, ManagedView):
    """One attempt to have one workload on one host. Windlass makes and removes them."""

    model = Placement
    select = ("place__host", "place__cluster")
    rules: ClassVar = {**READ_RULES, "logs": Role.VIEWER.value}
    serializer_class = PlacementSerializer
    filterset_class = PlacementFilters
