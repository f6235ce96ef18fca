"""Training runs and their metrics."""

from __future__ import annotations

from django.db import models

from apps.core.models import Managed, managed_constraint, managed_index
from apps.registry.models import Blob, DatasetVersion, Model, ModelVersion
from apps.training.phases import TRAINING_RUN_PHASES


class TrainingRun(Managed):
    """One training of one model. A user's retry is a new run; attempts after lost placements belong to this one.

    `script`: a user's own script (a blob), instead of a recipe. `metrics`: the latest value of each metric.
    `processes` are shared out evenly to `nodes`, machines or pods; `place`: where alone it may run.
    `metrics_offset`: how many bytes of the current attempt's metrics stream are in MetricPoint.
    """

    kind = "training_run"
    prefix = "run"
    title = "training run"
    phases = TRAINING_RUN_PHASES

    name = models.CharField(max_length=63)
    number = models.PositiveIntegerField()
    recipe = models.CharField(max_length=40, default="", blank=True)
    script = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    script_name = models.CharField(max_length=100, default="", blank=True)
    dataset_version = models.ForeignKey(DatasetVersion, models.PROTECT, null=True, blank=True, related_name="runs")
    model = models.ForeignKey(Model, models.PROTECT, related_name="runs")
    strategy = models.CharField(max_length=32, default="data_parallel")
    processes = models.PositiveSmallIntegerField(default=1)
    nodes = models.PositiveSmallIntegerField(default=1)
    place = models.ForeignKey("placements.Place", models.PROTECT, null=True, blank=True, related_name="+")
    hyperparameters = models.JSONField(default=dict)
    secrets = models.JSONField(default=list)
    memory_bytes_per_process = models.PositiveBigIntegerField(default=1536 * 1024**2)
    deadline_seconds = models.PositiveIntegerField(default=3 * 3600)
    attempt = models.PositiveIntegerField(default=0)
    fruitless_attempts = models.PositiveSmallIntegerField(default=0)
    checkpoint = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    metrics = models.JSONField(default=dict)
    metrics_offset = models.PositiveBigIntegerField(default=0)
    step = models.PositiveBigIntegerField(default=0)
    total_steps = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    result = models.OneToOneField(ModelVersion, models.PROTECT, null=True, blank=True, related_name="run")

    class Meta:
        constraints = [
            managed_constraint("training_run", TRAINING_RUN_PHASES),
            models.UniqueConstraint(fields=["workspace", "name", "number"], name="training_run_number"),
        ]
        indexes = [managed_index("training_run"), models.Index(fields=["workspace", "-id"], name="run_list")]

    @property
    def label(self) -> str:
        return f"{self.name} #{self.number}"


class MetricPoint(models.Model):
    run = models.ForeignKey(TrainingRun, models.CASCADE, related_name="points")
    name = models.CharField(max_length=60)
    step = models.PositiveBigIntegerField()
    value = models.FloatField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name", "step"], name="metric_point")]

    def __str__(self) -> str:
        return f"{self.name} at {self.step}: {self.value}"
