"""Deployments, gateways and usage in the console."""

from __future__ import annotations

from django.contrib import admin

from apps.core.admin.base import ConsoleAdmin, LargeTableAdmin, stamp
from apps.core.admin.managed import ManagedAdmin
from apps.core.admin.operations import STOP, delete
from apps.deployments.models import Deployment, Gateway, Revision, UsageCursor, UsageWindow


@admin.register(Deployment)
class DeploymentAdmin(ManagedAdmin):
    more = (STOP, delete())


@admin.register(Gateway)
class GatewayAdmin(ManagedAdmin):
    """It belongs to its host: it is neither cancelled nor deleted by itself."""


@admin.register(Revision)
class RevisionAdmin(ConsoleAdmin):
    list_display = ("short_id", "deployment_name", "number", "export", "note", "created_at")
    list_select_related = ("deployment", "export")
    ordering = ("-pk",)
    search_ids = {"dep": "deployment", "exp": "export"}
    search_fields = ("deployment__name",)

    @admin.display(description="deployment", ordering="deployment__name")
    def deployment_name(self, revision: Revision) -> str:
        return revision.deployment.name


@admin.register(UsageWindow)
class UsageWindowAdmin(LargeTableAdmin):
    search_ids = {"dep": "deployment"}
    search_fields = ("deployment",)
    search_help_text = "The whole id of a deployment (dep_…)."
    list_display = (stamp("starts_at"), "seconds", "deployment", "revision", "requests", "errors")
    list_select_related = ("deployment",)


@admin.register(UsageCursor)
class UsageCursorAdmin(ConsoleAdmin):
    search_ids = {"plc": "placement_id"}
    search_fields = ("stream",)
    list_display = ("placement_id", "stream", "offset", "updated_at")
    ordering = ("-pk",)
