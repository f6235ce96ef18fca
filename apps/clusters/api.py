"""Hosts in the API."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.auth import require_staff
from apps.accounts.models import Role
from apps.clusters import services
from apps.clusters.models import Host
from apps.core import ids
from apps.core.api.fields import Input
from apps.core.api.views import READ_RULES, Listed, Retrieved, WorkspaceView
from apps.core.errors import Missing


class HostSerializer(serializers.ModelSerializer[Host]):
    id = serializers.CharField(source="typed_id", read_only=True)

    class Meta:
        model = Host
        fields = (
            "id",
            "name",
            "cpus",
            "memory_bytes",
            "gpus",
            "draining",
            "caged",
            "isolation",
            "disk_free_bytes",
            "heartbeat_at",
            "lost_at",
            "created_at",
        )


class HostInput(Input):
    draining = serializers.BooleanField()


class HostView(Listed, Retrieved, WorkspaceView):
    """Machines that run workloads; they belong to the installation, and all workspaces use them."""

    model = Host
    serializer_class = HostSerializer
    rules: ClassVar = {**READ_RULES, "partial_update": Role.ADMIN.value}

    def get_queryset(self) -> QuerySet[Any]:
        return Host.objects.all()

    def get_object(self) -> Host:
        try:
            return Host.objects.get(pk=ids.parse(Host.prefix, self.kwargs["id"]))
        except (ValueError, Host.DoesNotExist) as error:
            raise Missing(f"There is no host “{self.kwargs['id'][:60]}”.") from error

    @extend_schema(request=HostInput)
    def partial_update(self, request: Request, workspace: str, id: str) -> Response:
        """Have it start nothing new, or start again; only by staff, since all workspaces use it."""
        require_staff(request.user, "A host")
        draining = self.body(HostInput)["draining"]
        return self.answer(services.set_draining(self.get_object(), self.actor, draining, self.workspace))
