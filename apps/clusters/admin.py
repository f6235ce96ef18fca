"""Hosts in the console."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from unfold.decorators import display

from apps.clusters.models import Host
from apps.clusters.services import set_draining
from apps.core.actor import Actor
from apps.core.admin.base import ConsoleAdmin, Operation
from apps.core.figures import ago, file_size, memory


def drain(host: Host, actor: Actor) -> None:
    with transaction.atomic():
        set_draining(host, actor, True)


def undrain(host: Host, actor: Actor) -> None:
    with transaction.atomic():
        set_draining(host, actor, False)


@admin.register(Host)
class HostAdmin(ConsoleAdmin):
    operations = (
        Operation(
            "drain",
            "Drain",
            "It starts nothing new; what runs there goes on to its end.",
            drain,
            icon="water_drop",
        ),
        Operation("undrain", "Take work again", "New work may be placed there again.", undrain, icon="play_arrow"),
    )
    list_display = (
        "short_id",
        "name",
        "cpus",
        "memory",
        "gpus",
        "disk_free",
        "heartbeat",
        "sweep",
        "draining",
        "lost_at",
    )
    search_fields = ("name",)

    @display(description="memory", ordering="memory_bytes")
    def memory(self, host: Host) -> str:
        return memory(host.memory_bytes)

    @display(description="disk free", ordering="disk_free_bytes")
    def disk_free(self, host: Host) -> str:
        return file_size(host.disk_free_bytes)

    @display(description="heartbeat", ordering="heartbeat_at")
    def heartbeat(self, host: Host) -> str:
        return ago(host.heartbeat_at)

    @display(description="sweep", ordering="swept_at")
    def sweep(self, host: Host) -> str:
        return ago(host.swept_at)
