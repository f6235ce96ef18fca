"""Exports: a model version in a form that serves, with the certificate that compares it with the original."""

from __future__ import annotations

from django.db import models

from apps.core.models import Managed, managed_constraint, managed_index
from apps.exports.phases import EXPORT_PHASES
from apps.registry.models import Blob, ModelVersion


class Export(Managed):
    """`tolerances`: limits by figure name; `certificate`: the document that the export program wrote."""

    kind = "export"
    prefix = "exp"
    title = "export"
    phases = EXPORT_PHASES

    class Format(models.TextChoices):
        ONNX = "onnx", "ONNX"

    class Optimisation(models.TextChoices):
        NONE = "none", "None (fp32)"
        DYNAMIC_INT8 = "dynamic_int8", "Dynamic int8"

    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="exports")
    dataset_version = models.ForeignKey(
        "registry.DatasetVersion", models.PROTECT, null=True, blank=True, related_name="+"
    )
    number = models.PositiveIntegerField()
    format = models.CharField(max_length=20, choices=Format.choices, default=Format.ONNX)
    optimisation = models.CharField(max_length=20, choices=Optimisation.choices, default=Optimisation.NONE)
    tolerances = models.JSONField(default=dict)
    memory_bytes = models.PositiveBigIntegerField(default=3 * 1024**3)
    attempt = models.PositiveIntegerField(default=0)
    fruitless_attempts = models.PositiveSmallIntegerField(default=0)
    certificate = models.JSONField(default=dict)
    signature = models.JSONField(default=dict)
    file = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")
    signature_file = models.ForeignKey(Blob, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            managed_constraint("export", EXPORT_PHASES),
            models.UniqueConstraint(fields=["model_version", "number"], name="export_number"),
        ]
        indexes = [
            managed_index("export"),
            models.Index(fields=["workspace", "-id"], name="export_list"),
        ]

    @property
    def label(self) -> str:
        return f"{self.model_version.name} export {self.number}"
