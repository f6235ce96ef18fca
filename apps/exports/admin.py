"""Exports in the console."""

from __future__ import annotations

from django.contrib import admin

from apps.core.admin.managed import ManagedAdmin
from apps.core.admin.operations import CANCEL, delete
from apps.exports.models import Export
from apps.exports.services import check_export_unused


@admin.register(Export)
class ExportAdmin(ManagedAdmin):
    more = (CANCEL, delete(check_export_unused))
    extra_filters = ("optimisation",)
