"""A managed kind in the console: where each row is, why, and who works at it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from apps.core.admin.base import ConsoleAdmin, Operation
from apps.core.admin.operations import RELEASE_LEASE, RETRY, WAKE
from apps.core.figures import ago
from apps.core.models import QUARANTINE_STRIKES
from apps.core.pages.rows import NAMED_BY, label

TONES = {"ok": "success", "run": "info", "wait": "", "warn": "warning", "bad": "danger", "off": ""}
SHORT = 90
WANTED = ("typed_id", "workspace", "goal", "generation", "created_at", "created_by")
STATE = ("phase_now", "reason", "message", "progress", "phase_since", "ending", "observed_generation", "version")
WORK = ("queue", "due_at", "strikes", "retries", "wakes", "hinted_at", "lease", "lease_expires_at", "events")
WAITING = Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now())
STATES = {
    "due": ("Due now", Q(due_at__lte=Now()) & WAITING),
    "leased": ("Leased", Q(lease_expires_at__gte=Now())),
    "failing": ("Failed twice or more in a row", Q(strikes__gte=2)),
    "quarantined": ("Quarantined", Q(strikes__gte=QUARANTINE_STRIKES)),
}


class PhaseFilter(SimpleListFilter):
    title = "phase"
    parameter_name = "phase"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = model_admin.model.phases.choices()
        return found

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(phase=self.value()) if self.value() else queryset


class StateFilter(SimpleListFilter):
    title = "work"
    parameter_name = "work"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, words) for name, (words, _) in STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = STATES.get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class ManagedAdmin(ConsoleAdmin):
    """`more`: what an operator may do besides looking again; `extra_filters`: beside phase, goal, work, workspace."""

    more: ClassVar[tuple[Operation, ...]] = ()
    extra_filters: ClassVar[tuple[Any, ...]] = ()
    hidden: ClassVar[tuple[str, ...]] = ("lease_token",)
    ordering = ("-pk",)
    list_display = (
        "short_id",
        "name_shown",
        "workspace",
        "phase_word",
        "reason",
        "short_message",
        "goal",
        "strikes_shown",
        "due",
        "lease",
    )

    def __init__(self, model: Any, admin_site: Any) -> None:
        self.operations = (RETRY, WAKE, *self.more, RELEASE_LEASE)  # type: ignore[misc]
        self.list_filter = (PhaseFilter, "goal", StateFilter, "workspace", *self.extra_filters)
        self.list_select_related = ("workspace", *NAMED_BY.get(model.kind, ()))
        names = {field.name for field in model._meta.concrete_fields}
        self.search_fields = ("name",) if "name" in names else ("reason",)
        self.search_help_text = f"A name, or a whole id ({model.prefix}_…)."
        if "name" not in names:
            self.search_help_text = f"A reason, or a whole id ({model.prefix}_…)."
        super().__init__(model, admin_site)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = {*WANTED, *STATE, *WORK, "id", "phase", *self.hidden}
        own = [field.name for field in self.model._meta.concrete_fields if field.name not in shown]
        spec = [name for name in own if name in self.model.spec_fields]
        rest = [name for name in own if name not in spec]
        return [
            ("How far it is", {"fields": STATE}),
            ("What is wanted", {"fields": [*WANTED, *spec]}),
            ("Who works at it", {"fields": WORK}),
            (f"This {self.model.title}", {"fields": rest}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for _, options in self.get_fieldsets(request, obj) for name in options["fields"]]

    @display(description="name")
    def name_shown(self, row: Any) -> SafeString:
        return format_html('<span class="whitespace-nowrap">{}</span>', label(row))

    @display(description="phase", ordering="phase", label=TONES)
    def phase_word(self, row: Any) -> tuple[str, str]:
        if row.quarantined and not row.is_final:
            return "warn", f"{row.current_phase.word}, quarantined"
        return row.current_phase.tone, row.current_phase.word

    @display(description="phase")
    def phase_now(self, row: Any) -> str:
        return str(self.phase_word(row)[1])

    @display(description="message")
    def short_message(self, row: Any) -> SafeString | str:
        if len(row.message) <= SHORT:
            return str(row.message)
        return format_html('<span title="{}">{}…</span>', row.message, row.message[:SHORT].rstrip())

    @display(description="strikes", ordering="strikes")
    def strikes_shown(self, row: Any) -> str:
        return str(row.strikes or "")

    @display(description="due", ordering="due_at")
    def due(self, row: Any) -> SafeString | str:
        return _moment(row.due_at) if row.due_at else ""

    @display(description="lease")
    def lease(self, row: Any) -> SafeString | str:
        if row.lease_expires_at is None:
            return ""
        if row.lease_expires_at < timezone.now():
            return "ended, not given back"
        return format_html('<span class="whitespace-nowrap">ends {}</span>', _moment(row.lease_expires_at))

    @display(description="events")
    def events(self, row: Any) -> SafeString:
        url = reverse("admin:core_event_changelist", query={"q": row.typed_id})
        return format_html('<a class="text-link" href="{}">What became of it</a>', url)


def _moment(moment: Any) -> SafeString:
    return format_html(
        '<span class="whitespace-nowrap" title="{} UTC">{}</span>', moment.strftime("%Y-%m-%d %H:%M:%S"), ago(moment)
    )
