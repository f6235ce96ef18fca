"""Exports in the API."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role
from apps.core.api.fields import MANAGED_FIELDS, AnyObject, Input, ManagedSerializer, TypedId
from apps.core.api.filters import ManagedFilters, RelatedFilter
from apps.core.api.views import JOB_RULES, Cancellable, Deletable, ManagedView
from apps.core.checks import related
from apps.core.errors import Missing
from apps.exports import services
from apps.exports.models import Export
from apps.placements.api import LogsMixin
from apps.registry.blobs_api import blob_content
from apps.registry.models import Blob, DatasetVersion, Model, ModelVersion


class ExportSerializer(ManagedSerializer):
    label = serializers.CharField(read_only=True)  # type: ignore[assignment]
    model_version = TypedId(ModelVersion.prefix, source="model_version_id")
    model = TypedId(Model.prefix, source="model_version.model_id")
    dataset_version = TypedId(DatasetVersion.prefix, source="dataset_version_id")
    file = TypedId(Blob.prefix, source="file_id")

    class Meta:
        model = Export
        fields = (
            *MANAGED_FIELDS,
            "label",
            "number",
            "model",
            "model_version",
            "dataset_version",
            "format",
            "optimisation",
            "tolerances",
            "memory_bytes",
            "attempt",
            "certificate",
            "signature",
            "file",
        )


class ExportInput(Input):
    model_version = serializers.CharField()
    optimisation = serializers.ChoiceField(choices=Export.Optimisation.choices, required=False)
    tolerances = AnyObject(required=False, help_text="Limits by figure; those not given are the defaults.")
    dataset_version = serializers.CharField(
        required=False, help_text="Whose held-out items judge it; that of the training if not given."
    )
    memory_bytes = serializers.IntegerField(required=False)


class ExportFilters(ManagedFilters):
    model_version = RelatedFilter(ModelVersion, field_name="model_version")
    model = RelatedFilter(Model, field_name="model_version__model")
    optimisation = django_filters.CharFilter()

    class Meta:
        model = Export
        fields = ()


class ExportView(Cancellable, Deletable, LogsMixin, ManagedView):
    """A model version in a form that serves, with the certificate that compares it with the original."""

    model = Export
    select = ("model_version__model",)
    rules: ClassVar = {**JOB_RULES, "certificate": Role.VIEWER.value, "content": Role.VIEWER.value}
    serializer_class = ExportSerializer
    filterset_class = ExportFilters

    def check_unused(self, row: Export) -> None:
        services.check_export_unused(row)

    @extend_schema(request=ExportInput, responses={201: ExportSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        given: dict[str, Any] = self.body(ExportInput)
        given["model_version"] = related(
            ModelVersion, self.workspace, given["model_version"], "model_version", ("model",)
        )
        if "dataset_version" in given:
            given["dataset_version"] = related(
                DatasetVersion, self.workspace, given["dataset_version"], "dataset_version", ("dataset",)
            )
        return self.answer(services.create_export(self.workspace, self.actor, **given), 201)

    @extend_schema(responses=OpenApiTypes.OBJECT, filters=False)
    @action(detail=True)
    def certificate(self, request: Request, workspace: str, id: str) -> Response:
        """The document that compares the export with the original, figure by figure."""
        row = self.get_object()
        if not row.certificate:
            raise Missing(f"{row.label} has no certificate yet: {row.current_phase.word.lower()}.")
        return Response(row.certificate)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}, filters=False)
    @action(detail=True)
    def content(self, request: Request, workspace: str, id: str) -> HttpResponseBase:
        """The exported file."""
        row = self.get_object()
        if row.file is None:
            raise Missing(f"{row.label} has no file: {row.current_phase.word.lower()}.")
        name = f"{row.model_version.model.name}-v{row.model_version.number}-{row.optimisation}.onnx"
        return blob_content(request, row.file, name)
