"""Deployments in the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import django_filters
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role
from apps.core.api import parameters
from apps.core.api.fields import MANAGED_FIELDS, AnyObject, Input, ManagedSerializer, TypedId
from apps.core.api.filters import ManagedFilters
from apps.core.api.views import WRITE_RULES, Deletable, ManagedView
from apps.core.checks import related
from apps.core.errors import invalid
from apps.core.models import Goal
from apps.deployments import services
from apps.deployments.models import Deployment, Revision
from apps.exports.models import Export
from apps.placements.api import LogsMixin


class SpreadSerializer(Input):
    place = serializers.CharField(max_length=60, help_text="One of those at /places.")
    replicas = serializers.IntegerField(required=False, help_text="1 if not given.")
    weight = serializers.IntegerField(
        required=False, help_text="Its share of the requests, of the sum; 100 if not given. 0: ready, and gets none."
    )


class DeploymentSerializer(ManagedSerializer):
    url = serializers.SerializerMethodField(help_text="Where it answers, by the Open Inference Protocol v2.")

    spread = SpreadSerializer(many=True, read_only=True, help_text="Where it stands; empty: on one place, any.")

    class Meta:
        model = Deployment
        fields = (
            *MANAGED_FIELDS,
            "name",
            "url",
            "revision",
            "serving_revision",
            "replicas",
            "ready_replicas",
            "cpus",
            "memory_bytes",
            "spread",
        )

    def get_url(self, row: Deployment) -> str:
        return services.url(row)


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    id = serializers.CharField(source="typed_id", read_only=True)
    export = TypedId(Export.prefix, source="export_id")
    export_label = serializers.CharField(source="export.label", read_only=True)

    class Meta:
        model = Revision
        fields = ("id", "number", "export", "export_label", "note", "created_at", "created_by")


class RevisionInput(Input):
    export = serializers.CharField()
    note = serializers.CharField(required=False, allow_blank=True)
    override_reason = serializers.CharField(
        required=False,
        max_length=1000,
        help_text="Why an export that was rejected is served; goes into the audit trail.",
    )


class SizeInput(Input):
    replicas = serializers.IntegerField(required=False)
    cpus = serializers.FloatField(required=False, help_text="Of one replica.")
    memory_bytes = serializers.IntegerField(required=False, help_text="Of one replica.")
    spread = SpreadSerializer(
        many=True,
        required=False,
        help_text="The places that it stands on, each with its replicas and its share of the requests. `replicas` is "
        "their sum then. Empty: on one place, wherever there is room.",
    )


class DeploymentInput(RevisionInput, SizeInput):
    name = serializers.CharField(max_length=80)


class RollBackInput(Input):
    revision = serializers.IntegerField()


class UsageSerializer(serializers.Serializer[Any]):
    starts_at = serializers.DateTimeField()
    requests = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    statuses = AnyObject()
    keys = AnyObject()
    latency_ms = AnyObject()


class DeploymentFilters(ManagedFilters):
    name = django_filters.CharFilter()
    export = django_filters.CharFilter(method="by_export")

    class Meta:
        model = Deployment
        fields = ()

    def by_export(self, queryset: Any, name: str, value: str) -> Any:
        export = related(Export, self.request.parser_context["view"].workspace, value, name)
        return queryset.filter(revisions__export=export).distinct()


class DeploymentView(Deletable, LogsMixin, ManagedView):
    """A stable URL with a model behind it."""

    model = Deployment
    select = ("workspace",)
    rules: ClassVar = {
        **WRITE_RULES,
        "partial_update": Role.DEVELOPER.value,
        "revisions": Role.VIEWER.value,
        "create_revision": Role.DEVELOPER.value,
        "roll_back": Role.DEVELOPER.value,
        "stop": Role.DEVELOPER.value,
        "start": Role.DEVELOPER.value,
        "usage": Role.VIEWER.value,
        "logs": Role.VIEWER.value,
    }
    serializer_class = DeploymentSerializer
    filterset_class = DeploymentFilters

    @extend_schema(request=DeploymentInput, responses={201: DeploymentSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        given = self.body(DeploymentInput)
        given["export"] = self.export(given["export"])
        return self.answer(services.create_deployment(self.workspace, self.actor, **given), 201)

    def export(self, typed_id: str) -> Export:
        return related(Export, self.workspace, typed_id, "export", ("model_version__model",))

    @extend_schema(request=SizeInput, responses={200: DeploymentSerializer})
    def partial_update(self, request: Request, workspace: str, id: str) -> Response:
        """Change how many replicas there are, where they stand, and how large each is."""
        row = self.get_object()
        return self.answer(services.resize(row, self.actor, self.body(SizeInput), self.if_generation()))

    @extend_schema(responses=RevisionSerializer(many=True), filters=False)
    @action(detail=True, serializer_class=RevisionSerializer)
    def revisions(self, request: Request, workspace: str, id: str) -> Response:
        """All of them, the newest first; each can be rolled back to."""
        return self.paged(
            Revision.objects.filter(deployment=self.get_object()).select_related("export__model_version__model")
        )

    @extend_schema(request=RevisionInput, responses={201: RevisionSerializer})
    @revisions.mapping.post
    def create_revision(self, request: Request, workspace: str, id: str) -> Response:
        """Make a revision and move to it; the one before answers until the new one is ready."""
        row = self.get_object()
        given = self.body(RevisionInput)
        given["export"] = self.export(given["export"])
        generation = self.if_generation()
        return self.answer(services.create_revision(row, self.actor, **given, if_generation=generation), 201)

    @extend_schema(request=RollBackInput, responses={202: DeploymentSerializer})
    @action(detail=True, methods=["post"], url_path="roll-back")
    def roll_back(self, request: Request, workspace: str, id: str) -> Response:
        """Move to an earlier revision."""
        row = self.get_object()
        number = self.body(RollBackInput)["revision"]
        return self.answer(services.roll_back(row, self.actor, number, self.if_generation()), 202)

    @extend_schema(request=None, responses={202: DeploymentSerializer})
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, workspace: str, id: str) -> Response:
        """Take it off the gateway and stop its replicas; its URL and revisions stay."""
        return self.wanted(self.get_object(), goal=Goal.STOP)

    @extend_schema(request=None, responses={202: DeploymentSerializer})
    @action(detail=True, methods=["post"])
    def start(self, request: Request, workspace: str, id: str) -> Response:
        """Serve again."""
        return self.wanted(self.get_object(), goal=Goal.RUN)

    @extend_schema(
        parameters=[
            OpenApiParameter("bucket", str, enum=sorted(services.BUCKETS), default="minute"),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="The last hour if not given."),
            OpenApiParameter("until", OpenApiTypes.DATETIME),
            OpenApiParameter("revision", int),
        ],
        responses=UsageSerializer(many=True),
        filters=False,
    )
    @action(detail=True, pagination_class=None)
    def usage(self, request: Request, workspace: str, id: str) -> Response:
        """What was asked of it. After an hour it is kept by the hour, after two days by the day."""
        bucket = request.query_params.get("bucket", "minute")
        if bucket not in services.BUCKETS:
            fix = f"Use one of: {', '.join(services.BUCKETS)}."
            raise invalid("bucket", f"“{bucket[:40]}” is no bucket.", fix)
        until = parameters.time(request, "until") or timezone.now()
        since = parameters.time(request, "since") or until - timedelta(hours=1)
        revision = parameters.whole_number(request, "revision", None, 1, 2**31 - 1)
        return Response(
            services.usage_series(self.get_object(), bucket=bucket, since=since, until=until, revision=revision)
        )
