"""The admin console: every model, for the people who keep this installation running.

Signing in is the same as everywhere: whoever is not signed in goes to the ordinary page, and only staff get in.
"""

from __future__ import annotations

from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from apps.core.admin import schedule  # noqa: F401 - registers the scheduled jobs
from apps.core.admin.base import ConsoleAdmin, LargeTableAdmin, stamp
from apps.core.admin.managed import TONES
from apps.core.figures import short_id
from apps.core.ids import typed
from apps.core.models import Event, IdempotencyRecord, Installation
from apps.core.wants import models_by_kind

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, model.title) for kind, model in models_by_kind().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Event)
class EventAdmin(LargeTableAdmin):
    list_display = (stamp("at"), "row", "change", "reason", "message", "actor_name", "workspace")
    list_select_related = ("workspace",)
    list_filter = (KindFilter, "workspace")
    search_fields = ("row_id",)
    search_help_text = "The whole id of a row (run_…) finds all that became of it."

    @property
    def search_ids(self) -> dict[str, str]:  # type: ignore[override]
        return {model.prefix: "row_id" for model in models_by_kind().values()}

    @display(description="row")
    def row(self, event: Event) -> SafeString | str:
        model = models_by_kind().get(event.kind)
        if model is None:
            return f"{event.kind} {event.row_id}"
        row_id = typed(model.prefix, event.row_id)
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=(event.row_id,))
        return format_html('<a class="font-mono" href="{}" title="{}">{}</a>', url, row_id, short_id(row_id))

    @display(description="change", label=TONES)
    def change(self, event: Event) -> tuple[str, str]:
        model = models_by_kind().get(event.kind)
        new = model.phases.get(event.new) if model else None
        if new is None or event.old == event.new:
            return "off", ""
        return new.tone, new.word


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(LargeTableAdmin):
    """Answers are kept sealed, since one may hold a new API key; they are no more shown than opened."""

    hidden = ("response", "headers", "body_sha256")
    list_display = (stamp("created_at"), "route", "key", "owner", "status")
    ordering = ("-created_at",)


@admin.register(Installation)
class InstallationAdmin(ConsoleAdmin):
    """Its name is a tag on everything that was bought: it is never changed."""

    list_display = ("name",)
