"""The example that a new installation offers: what was pressed once goes on by itself, stage by stage."""

from __future__ import annotations

from django.db import models

from apps.core.models import Managed, managed_constraint, managed_index
from apps.deployments.models import Deployment
from apps.examples.phases import EXAMPLE_PHASES
from apps.exports.models import Export
from apps.training.models import TrainingRun


class Example(Managed):
    """Its stages are ordinary rows, which stay when it is gone."""

    kind = "example"
    prefix = "exa"
    title = "example"
    phases = EXAMPLE_PHASES
    lock_rank = 0

    run = models.ForeignKey(TrainingRun, models.PROTECT, related_name="+")
    export = models.ForeignKey(Export, models.PROTECT, null=True, blank=True, related_name="+")
    deployment = models.ForeignKey(Deployment, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [managed_constraint("example", EXAMPLE_PHASES)]
        indexes = [managed_index("example"), models.Index(fields=["workspace", "-id"], name="example_list")]

    @property
    def label(self) -> str:
        return "The example"
