"""Training runs and their metrics in the console."""

from __future__ import annotations

from django.contrib import admin

from apps.core.admin.base import LargeTableAdmin, stamp
from apps.core.admin.managed import ManagedAdmin
from apps.core.admin.operations import CANCEL, delete
from apps.training.models import MetricPoint, TrainingRun


@admin.register(TrainingRun)
class TrainingRunAdmin(ManagedAdmin):
    more = (CANCEL, delete())
    extra_filters = ("strategy",)


@admin.register(MetricPoint)
class MetricPointAdmin(LargeTableAdmin):
    search_ids = {"run": "run"}
    search_fields = ("run",)
    search_help_text = "The whole id of a run (run_…)."
    list_display = ("run", "name", "step", "value", stamp("at"))
    list_select_related = ("run",)
