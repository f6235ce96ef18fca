"""Places in the API: where workloads can stand."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers

from apps.clusters.models import Cluster, Host
from apps.core.api.fields import MANAGED_FIELDS, ManagedSerializer, TypedId
from apps.core.api.filters import ManagedFilters
from apps.core.api.views import READ_RULES, ManagedView
from apps.core.errors import Invalid, Missing
from apps.placements.models import Place
from apps.placements.places import place_named, places_of, with_held


class AmountSerializer(serializers.Serializer[Any]):
    cpus = serializers.FloatField()
    memory_bytes = serializers.IntegerField()
    gpus = serializers.IntegerField()


class HeldSerializer(serializers.Serializer[Any]):
    cpus = serializers.FloatField(source="held_cpus")
    memory_bytes = serializers.IntegerField(source="held_memory_bytes")
    gpus = serializers.IntegerField(source="held_gpus")


class PlaceSerializer(ManagedSerializer):
    """Of a place that all workspaces use, `held` is of all of them."""

    name = serializers.CharField(read_only=True, help_text="That of its host or cluster.")
    host = TypedId(Host.prefix, source="host_id")
    cluster = TypedId(Cluster.prefix, source="cluster_id")
    capacity = AmountSerializer(source="total", read_only=True, help_text="What it has in all.")
    held = HeldSerializer(source="*", read_only=True, help_text="What is reserved of it.")
    draining = serializers.SerializerMethodField(help_text="It starts nothing new.")
    lost_at = serializers.DateTimeField(read_only=True)

    class Meta:
        model = Place
        fields = (*MANAGED_FIELDS, "name", "target", "host", "cluster", "capacity", "held", "draining", "lost_at")

    def get_draining(self, row: Place) -> bool:
        return bool(row.host and row.host.draining)


class PlaceFilters(ManagedFilters):
    target = django_filters.CharFilter()

    class Meta:
        model = Place
        fields = ()


class PlaceView(ManagedView):
    """Hosts, which all workspaces use, and this workspace's own clusters. A run or a deployment can name one."""

    model = Place
    rules: ClassVar = READ_RULES
    serializer_class = PlaceSerializer
    filterset_class = PlaceFilters

    def get_queryset(self) -> QuerySet[Any]:
        if getattr(self, "swagger_fake_view", False):
            return Place.objects.none()
        return with_held(places_of(self.workspace))

    def get_object(self) -> Any:
        try:
            place = place_named(self.workspace, self.kwargs["id"], "id")
        except Invalid as error:
            raise Missing(f"There is no place “{self.kwargs['id'][:60]}” in this workspace.") from error
        return self.get_queryset().get(pk=place.pk)
