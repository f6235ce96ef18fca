"""Datasets and models, with their versions."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role
from apps.core.api.fields import MANAGED_FIELDS, AnyObject, Input, ManagedSerializer, TypedId
from apps.core.api.filters import ManagedFilters, RelatedFilter
from apps.core.api.parameters import whole_number
from apps.core.api.views import (
    JOB_RULES,
    WRITE_RULES,
    Cancellable,
    Deletable,
    Listed,
    ManagedView,
    Retrieved,
    WorkspaceView,
)
from apps.core.checks import related
from apps.core.errors import Missing, invalid
from apps.core.phases import DELETED
from apps.placements.api import LogsMixin
from apps.registry import services
from apps.registry.blobs_api import blob_content
from apps.registry.models import Blob, Dataset, DatasetVersion, Model, ModelFile, ModelVersion
from apps.registry.samples import SPLITS, samples


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    id = serializers.CharField(source="typed_id", read_only=True)

    class Meta:
        model = Dataset
        fields = ("id", "name", "description", "created_at", "created_by")


class ModelSerializer(serializers.ModelSerializer[Model]):
    id = serializers.CharField(source="typed_id", read_only=True)

    class Meta:
        model = Model
        fields = ("id", "name", "description", "created_at", "created_by")


class NamedInput(Input):
    name = serializers.CharField(max_length=80)
    description = serializers.CharField(required=False, allow_blank=True, max_length=10_000)


class DescriptionInput(Input):
    description = serializers.CharField(allow_blank=True, max_length=10_000)


class DatasetVersionSerializer(ManagedSerializer):
    dataset = TypedId(Dataset.prefix, source="dataset_id")
    name = serializers.CharField(read_only=True)
    upload = TypedId(Blob.prefix, source="upload_id")
    prepared = TypedId(Blob.prefix, source="prepared_id")

    class Meta:
        model = DatasetVersion
        fields = (
            *MANAGED_FIELDS,
            "dataset",
            "number",
            "name",
            "filename",
            "options",
            "upload",
            "prepared",
            "items",
            "attempt",
            "report",
        )


class ModelVersionSerializer(ManagedSerializer):
    model = TypedId(Model.prefix, source="model_id")
    name = serializers.CharField(read_only=True)
    upload = TypedId(Blob.prefix, source="upload_id")

    class Meta:
        model = ModelVersion
        fields = (
            *MANAGED_FIELDS,
            "model",
            "number",
            "name",
            "filename",
            "upload",
            "attempt",
            "signature",
            "metrics",
            "report",
        )


class ModelFileSerializer(serializers.ModelSerializer[ModelFile]):
    blob = TypedId(Blob.prefix, source="blob_id")
    size_bytes = serializers.IntegerField(source="blob.size_bytes", read_only=True)
    sha256 = serializers.CharField(source="blob.sha256", read_only=True)

    class Meta:
        model = ModelFile
        fields = ("name", "blob", "size_bytes", "sha256")


class UploadInput(Input):
    blob = serializers.CharField(help_text="One that is uploaded completely.")
    filename = serializers.CharField(max_length=200)


class DatasetUploadInput(UploadInput):
    options = AnyObject(required=False, help_text="held_out_fraction, seed, label_column, image_size, skip_bad_rows.")


class SamplesSerializer(serializers.Serializer[Any]):
    items = serializers.ListField(child=AnyObject())
    total = serializers.IntegerField()
    offset = serializers.IntegerField()
    split = serializers.CharField()
    dataset = AnyObject()


class NamedFilters(django_filters.FilterSet):
    name = django_filters.CharFilter()


CONTAINER_RULES = {
    **WRITE_RULES,
    "partial_update": Role.DEVELOPER.value,
    "versions": Role.VIEWER.value,
    "create_version": Role.DEVELOPER.value,
}


class ContainerView(Listed, Retrieved, WorkspaceView):
    """A named thing with versions: what datasets and models have in common."""

    filterset_class = NamedFilters
    rules: ClassVar = CONTAINER_RULES

    @extend_schema(request=DescriptionInput)
    def partial_update(self, request: Request, workspace: str, id: str) -> Response:
        row = self.get_object()
        services.describe(row, self.body(DescriptionInput)["description"])
        return self.answer(row)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, workspace: str, id: str) -> Response:
        """Remove it; its versions must be deleted before."""
        services.remove_container(self.get_object(), self.actor)
        return Response(status=204)

    def upload(self, given: dict[str, Any]) -> dict[str, Any]:
        return {**given, "blob": related(Blob, self.workspace, given["blob"], "blob")}


class DatasetView(ContainerView):
    """Data to learn from, by versions."""

    model = Dataset
    serializer_class = DatasetSerializer

    @extend_schema(request=NamedInput, responses={201: DatasetSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        return self.answer(services.create_dataset(self.workspace, self.actor, **self.body(NamedInput)), 201)

    @extend_schema(responses=DatasetVersionSerializer(many=True), filters=False)
    @action(detail=True, serializer_class=DatasetVersionSerializer)
    def versions(self, request: Request, workspace: str, id: str) -> Response:
        """Its versions, the newest first."""
        rows = DatasetVersion.objects.filter(dataset=self.get_object()).exclude(phase=DELETED)
        return self.paged(rows.select_related("dataset"))

    @extend_schema(request=DatasetUploadInput, responses={201: DatasetVersionSerializer})
    @versions.mapping.post
    def create_version(self, request: Request, workspace: str, id: str) -> Response:
        """Have an uploaded npz, zip of image folders, CSV, Parquet or JSON Lines checked and prepared."""
        dataset = self.get_object()
        given = self.upload(self.body(DatasetUploadInput))
        return self.answer(services.create_dataset_version(dataset, self.actor, **given), 201)


class ModelView(ContainerView):
    """A model, by versions."""

    model = Model
    serializer_class = ModelSerializer

    @extend_schema(request=NamedInput, responses={201: ModelSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        return self.answer(services.create_model(self.workspace, self.actor, **self.body(NamedInput)), 201)

    @extend_schema(responses=ModelVersionSerializer(many=True), filters=False)
    @action(detail=True, serializer_class=ModelVersionSerializer)
    def versions(self, request: Request, workspace: str, id: str) -> Response:
        """Its versions, the newest first."""
        rows = ModelVersion.objects.filter(model=self.get_object()).exclude(phase=DELETED)
        return self.paged(rows.select_related("model"))

    @extend_schema(request=UploadInput, responses={201: ModelVersionSerializer})
    @versions.mapping.post
    def create_version(self, request: Request, workspace: str, id: str) -> Response:
        """Have an uploaded ONNX model checked."""
        model = self.get_object()
        given = self.upload(self.body(UploadInput))
        return self.answer(services.create_model_version(model, self.actor, **given), 201)


class DatasetVersionFilters(ManagedFilters):
    dataset = RelatedFilter(Dataset, field_name="dataset")

    class Meta:
        model = DatasetVersion
        fields = ("number",)


class ModelVersionFilters(ManagedFilters):
    model = RelatedFilter(Model, field_name="model")

    class Meta:
        model = ModelVersion
        fields = ("number",)


VERSION_RULES = {name: rule for name, rule in JOB_RULES.items() if name != "create"}


class DatasetVersionView(Cancellable, Deletable, LogsMixin, ManagedView):
    """An upload, checked and prepared; it never changes once it is ready."""

    model = DatasetVersion
    select = ("dataset",)
    rules: ClassVar = {**VERSION_RULES, "samples": Role.VIEWER.value}
    serializer_class = DatasetVersionSerializer
    filterset_class = DatasetVersionFilters

    def check_unused(self, row: DatasetVersion) -> None:
        services.check_dataset_version_unused(row)

    @extend_schema(
        parameters=[
            OpenApiParameter("split", str, enum=sorted(SPLITS), default="held_out"),
            OpenApiParameter("offset", int),
            OpenApiParameter("limit", int, description="1 to 50, 10 if not given."),
        ],
        responses=SamplesSerializer,
        filters=False,
    )
    @action(detail=True, pagination_class=None)
    def samples(self, request: Request, workspace: str, id: str) -> Response:
        """A few items with their labels, such as to try a deployment with."""
        row = self.row(DatasetVersion, id, ("dataset", "prepared"))
        split = request.query_params.get("split", "held_out")
        if split not in SPLITS:
            raise invalid("split", f"“{split[:40]}” is no split.", f"Use one of: {', '.join(SPLITS)}.")
        offset, limit = whole_number(request, "offset", 0, 0), whole_number(request, "limit", 10, 1, 50)
        return Response(samples(row, split=split, offset=offset, limit=limit))


class ModelVersionView(Cancellable, Deletable, LogsMixin, ManagedView):
    """What a training run made, or somebody uploaded; it never changes once it is ready."""

    model = ModelVersion
    select = ("model",)
    rules: ClassVar = {**VERSION_RULES, "files": Role.VIEWER.value, "file": Role.VIEWER.value}
    serializer_class = ModelVersionSerializer
    filterset_class = ModelVersionFilters

    def check_unused(self, row: ModelVersion) -> None:
        services.check_model_version_unused(row)

    @extend_schema(responses=ModelFileSerializer(many=True), filters=False)
    @action(detail=True, serializer_class=ModelFileSerializer, pagination_class=None)
    def files(self, request: Request, workspace: str, id: str) -> Response:
        """The files of a version: weights, configuration, ONNX graph, signature, figures."""
        found = self.get_object().files.select_related("blob")
        return Response(ModelFileSerializer(found, many=True).data)

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}, filters=False)
    @action(detail=True, url_path="files/<str:name>")
    def file(self, request: Request, workspace: str, id: str, name: str) -> HttpResponseBase:
        """The content of one file."""
        row = self.get_object()
        blob = row.file(name)
        if blob is None:
            raise Missing(f"{row.name} has no file “{name[:60]}”. Ask for the list of its files.")
        return blob_content(request, blob, f"{row.model.name}-v{row.number}-{name}")
