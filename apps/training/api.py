"""Training runs in the API."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role
from apps.core.api.fields import MANAGED_FIELDS, AnyObject, Input, ManagedSerializer, TypedId
from apps.core.api.filters import ManagedFilters, RelatedFilter
from apps.core.api.parameters import whole_number
from apps.core.api.views import JOB_RULES, SIGNED_IN, ApiView, Cancellable, Deletable, ManagedView
from apps.core.checks import related
from apps.placements.api import LogsMixin
from apps.placements.models import Place
from apps.placements.places import place_named
from apps.registry.models import Blob, DatasetVersion, Model, ModelVersion
from apps.registry.services import model_named
from apps.training import hyperparameters, services
from apps.training.models import TrainingRun


class TrainingRunSerializer(ManagedSerializer):
    label = serializers.CharField(read_only=True)  # type: ignore[assignment]
    model = TypedId(Model.prefix, source="model_id")
    model_name = serializers.CharField(source="model.name", read_only=True)
    dataset_version = TypedId(DatasetVersion.prefix, source="dataset_version_id")
    script = TypedId(Blob.prefix, source="script_id")
    place = TypedId(Place.prefix, source="place_id")
    result = TypedId(ModelVersion.prefix, source="result_id")

    class Meta:
        model = TrainingRun
        fields = (
            *MANAGED_FIELDS,
            "name",
            "number",
            "label",
            "model",
            "model_name",
            "dataset_version",
            "recipe",
            "script",
            "script_name",
            "strategy",
            "processes",
            "nodes",
            "place",
            "hyperparameters",
            "secrets",
            "memory_bytes_per_process",
            "deadline_seconds",
            "attempt",
            "step",
            "total_steps",
            "metrics",
            "started_at",
            "ended_at",
            "result",
        )


class TrainingRunInput(Input):
    model = serializers.CharField(max_length=63, help_text="A model's id, or a name: a new one makes a new model.")
    name = serializers.CharField(max_length=63, required=False, help_text="That of the model if not given.")
    recipe = serializers.CharField(max_length=40, required=False, help_text="One of those at /recipes.")
    script = serializers.CharField(required=False, help_text="The blob of a script that torchrun can run.")
    script_name = serializers.CharField(max_length=100, required=False)
    dataset_version = serializers.CharField(required=False)
    strategy = serializers.CharField(max_length=32, required=False)
    processes = serializers.IntegerField(required=False, help_text="Over all nodes.")
    nodes = serializers.IntegerField(required=False, help_text="On as many hosts, or on one cluster, all or none.")
    place = serializers.CharField(required=False, help_text="Where alone it may run: one of those at /places.")
    hyperparameters = AnyObject(required=False)
    secrets = serializers.ListField(child=serializers.CharField(max_length=60), required=False, max_length=50)
    memory_bytes_per_process = serializers.IntegerField(required=False)
    deadline_seconds = serializers.IntegerField(required=False)


class TrainingRunFilters(ManagedFilters):
    model = RelatedFilter(Model, field_name="model")
    dataset_version = RelatedFilter(DatasetVersion, field_name="dataset_version")
    name = django_filters.CharFilter()
    recipe = django_filters.CharFilter()

    class Meta:
        model = TrainingRun
        fields = ()


class SeriesSerializer(serializers.Serializer[Any]):
    series = AnyObject(help_text="By metric: steps, values, minimum, maximum, times, all of one length.")
    step = serializers.IntegerField()
    total_steps = serializers.IntegerField()


class TrainingRunView(Cancellable, Deletable, LogsMixin, ManagedView):
    """A training of one model, by a recipe or by your own script."""

    model = TrainingRun
    select = ("model",)
    rules: ClassVar = {**JOB_RULES, "metrics": Role.VIEWER.value}
    serializer_class = TrainingRunSerializer
    filterset_class = TrainingRunFilters

    @extend_schema(request=TrainingRunInput, responses={201: TrainingRunSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        given = self.body(TrainingRunInput)
        relations: dict[str, Any] = {}
        for name, model in (("script", Blob), ("dataset_version", DatasetVersion)):
            if name in given:
                select = ("dataset",) if name == "dataset_version" else ()
                relations[name] = related(model, self.workspace, given.pop(name), name, select)
        if "place" in given:
            relations["place"] = place_named(self.workspace, given.pop("place"), "place")
        named = given.pop("model")
        if named.startswith(f"{Model.prefix}_"):
            relations["model"] = related(Model, self.workspace, named, "model")
        else:
            relations["model"] = model_named(self.workspace, self.actor, named)
        return self.answer(services.create_training_run(self.workspace, self.actor, **given, **relations), 201)

    @extend_schema(
        parameters=[
            OpenApiParameter("names", str, description="Metrics, with commas; all if not given."),
            OpenApiParameter("since_step", int, description="Only points after this step."),
            OpenApiParameter("max_points", int, description="At most so many points a metric, 10 to 5,000."),
        ],
        responses=SeriesSerializer,
        filters=False,
    )
    @action(detail=True)
    def metrics(self, request: Request, workspace: str, id: str) -> Response:
        """Points to draw: of many, neighbours are put together, with their lowest and highest."""
        run = self.get_object()
        names = [name for name in request.query_params.get("names", "").split(",") if name]
        series = services.metric_series(
            run,
            names=names,
            since_step=whole_number(request, "since_step", -1, 0),
            max_points=whole_number(request, "max_points", 500, 10, 5000),
        )
        return Response({"series": series, "step": run.step, "total_steps": run.total_steps})


class RecipeSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    dataset_kind = serializers.CharField()
    hyperparameters = serializers.ListField(child=AnyObject())


class RecipeView(ApiView):
    """What can be trained without a script of your own, and what can be set."""

    rules: ClassVar = {"list": SIGNED_IN}
    serializer_class = RecipeSerializer
    pagination_class = None
    filter_backends = ()

    @extend_schema(responses=RecipeSerializer(many=True))
    def list(self, request: Request) -> Response:
        return Response(
            [
                {
                    "name": recipe.name,
                    "title": recipe.title,
                    "dataset_kind": recipe.dataset_kind,
                    "hyperparameters": hyperparameters.table(recipe.name),
                }
                for recipe in hyperparameters.RECIPES.values()
            ]
        )
