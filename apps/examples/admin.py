"""The example in the console."""

from __future__ import annotations

from django.contrib import admin

from apps.core.admin.managed import ManagedAdmin
from apps.core.admin.operations import CANCEL, delete
from apps.examples.models import Example


@admin.register(Example)
class ExampleAdmin(ManagedAdmin):
    more = (CANCEL, delete())
