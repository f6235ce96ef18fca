"""Placements, places, reservations and logs in the console."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Func, IntegerField, QuerySet
from django.http import HttpRequest

from apps.core.admin.base import ConsoleAdmin, LargeTableAdmin, stamp
from apps.core.admin.managed import ManagedAdmin
from apps.core.figures import file_size, memory
from apps.placements.models import LogChunk, Place, Placement, PlacementBlob, Reservation


@admin.register(Placement)
class PlacementAdmin(ManagedAdmin):
    """It follows its owner: who wants it gone cancels or deletes that."""

    extra_filters = ("owner_kind",)
    search_help_text = "A reason, or a whole id of a placement (plc_…) or of its owner (run_…, dep_…)."
    search_ids = dict.fromkeys(("run", "exp", "dep", "dsv", "ver"), "owner_id")


@admin.register(Place)
class PlaceAdmin(ManagedAdmin):
    """It belongs to its host or cluster: it is neither cancelled nor deleted by itself."""


@admin.register(Reservation)
class ReservationAdmin(ConsoleAdmin):
    search_ids = {"plc": "placement", "plx": "place"}
    search_fields = ("place__host__name", "place__cluster__name")
    list_display = ("placement", "place", "cpus", "memory", "gpus")
    list_select_related = ("placement", "place__host", "place__cluster")
    ordering = ("-pk",)

    @admin.display(description="memory", ordering="memory_bytes")
    def memory(self, reservation: Reservation) -> str:
        return memory(reservation.memory_bytes)


@admin.register(PlacementBlob)
class PlacementBlobAdmin(LargeTableAdmin):
    search_ids = {"plc": "placement", "blob": "blob"}
    search_fields = ("placement",)
    search_help_text = "The whole id of a placement (plc_…) or of a blob (blob_…)."
    list_display = ("placement", "way", "name", "blob")
    list_select_related = ("placement", "blob")


@admin.register(LogChunk)
class LogChunkAdmin(LargeTableAdmin):
    """Where logs lie and how long they are; what programs wrote is for the members of their workspace."""

    hidden = ("data",)
    fields = ("placement", "stream", "offset", "size", "at")
    search_ids = {"plc": "placement"}
    search_fields = ("placement",)
    search_help_text = "The whole id of a placement (plc_…)."
    list_display = ("placement", "stream", "offset", "size", stamp("at"))
    list_select_related = ("placement",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        size = Func("data", function="octet_length", output_field=IntegerField())
        return super().get_queryset(request).annotate(size_bytes=size)

    @admin.display(description="size")
    def size(self, chunk: Any) -> str:
        return file_size(chunk.size_bytes)
