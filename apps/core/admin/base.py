"""What every list and page of the admin console has in common: staff look, few things change, nothing is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin import ShowFacets, helpers
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator

from apps.accounts import audit
from apps.accounts.models import User
from apps.core import ids
from apps.core.actor import Actor
from apps.core.errors import Problem
from apps.core.figures import short_id
from apps.core.wants import Deleting, NotStoppable

MOST_AT_ONCE = 200
CONFIRMED = "confirmed"
REFUSALS = (Problem, Deleting, NotStoppable)


@dataclass(frozen=True)
class Operation:
    """Something that can be done to a row. `means` says what follows, before anything is done.

    `act` does it to one row, audited, in its own transaction; it raises one of REFUSALS with words for the user.
    """

    name: str
    title: str
    means: str
    act: Callable[[Any, Actor], object]
    icon: str = "bolt"
    danger: bool = False


def user_of(request: HttpRequest) -> User:
    """Who is signed in; nobody else gets this far."""
    assert isinstance(request.user, User)
    return request.user


def actor_of(request: HttpRequest) -> Actor:
    return user_of(request).actor


def stamp(field: str) -> Any:
    """A column for a time, to the second."""

    @display(description=field.replace("_", " "), ordering=field)
    def column(row: Any) -> SafeString | str:
        moment = getattr(row, field)
        if moment is None:
            return "-"
        return format_html('<span class="whitespace-nowrap">{}</span>', moment.strftime("%Y-%m-%d %H:%M:%S"))

    return column


class ConsoleAdmin(ModelAdmin):
    """Staff see every field that is not `hidden`; superusers change what is in `editable`.

    `search_ids` maps the prefix of a typed id to the lookup that it is searched by; a row's own is known.
    """

    hidden: ClassVar[tuple[str, ...]] = ()
    editable: ClassVar[tuple[str, ...]] = ()
    addable: ClassVar[bool] = False
    operations: ClassVar[tuple[Operation, ...]] = ()
    search_ids: ClassVar[Mapping[str, str]] = {}
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    list_disable_select_all = True
    list_fullwidth = True
    list_filter_submit = False

    def __init__(self, model: type[Model], admin_site: Any) -> None:
        super().__init__(model, admin_site)
        for operation in self.operations:
            setattr(self, f"{operation.name}_one", self._on_one(operation))
        self.actions_detail = [f"{operation.name}_one" for operation in self.operations]

    # --- who may -----------------------------------------------------------------------------------------------

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.addable and bool(request.user.is_active and request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.editable) and bool(request.user.is_active and request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    # --- what is shown -----------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """What is hidden is not even read."""
        return super().get_queryset(request).defer(*self.hidden)

    def get_exclude(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return self.hidden

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[Any]:
        if self.fields:
            return self.fields
        names = [field.name for field in self.model._meta.concrete_fields if field.name not in self.hidden]
        if obj is None:
            return [name for name in names if name in self.editable]
        return ["typed_id" if name == "id" and hasattr(self.model, "typed_id") else name for name in names]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return [name for name in self.get_fields(request, obj) if name not in self.editable]

    @display(description="id", ordering="pk")
    def short_id(self, row: Any) -> SafeString:
        return format_html('<span class="font-mono" title="{}">{}</span>', row.typed_id, short_id(row.typed_id))

    def by_id(self, term: str) -> dict[str, Any] | None:
        """The condition that a typed id stands for, or None if `term` is no whole id of a kind known here."""
        prefix, _, tail = term.partition("_")
        lookup = {getattr(self.model, "prefix", ""): "pk", **self.search_ids}.get(prefix)
        if not lookup or len(tail) != ids.LENGTH:
            return None
        try:
            return {lookup: ids.parse(prefix, term)}
        except ValueError:
            return None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if condition := self.by_id(search_term.strip()):
            return queryset.filter(**condition), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(request, queryset, search_term)
        return found

    # --- what is done ------------------------------------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        if not self.operations or not self.has_operate_permission(request):
            return {}
        return {item.name: (self._on_many(item), item.name, item.title) for item in self.operations}

    def _on_many(self, operation: Operation) -> Callable[..., HttpResponse]:
        def many(_: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
            return self._confirmed(request, operation, list(queryset[:MOST_AT_ONCE]), request.get_full_path())

        return many

    def _on_one(self, operation: Operation) -> Callable[..., HttpResponse]:
        def one(request: HttpRequest, object_id: str) -> HttpResponse:
            row = self.get_object(request, unquote(object_id))
            if row is None:
                raise Http404
            if not self.has_operate_permission(request, row):
                raise PermissionDenied
            name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_change"
            return self._confirmed(request, operation, [row], reverse(name, args=(object_id,)))

        one.__name__ = f"{operation.name}_one"
        described: Any = action(description=operation.title, url_path=operation.name, icon=operation.icon)(one)
        one.__dict__.update(described.__dict__)  # Unfold reads these from what is found at the console itself
        return one

    def _confirmed(self, request: HttpRequest, operation: Operation, rows: list[Any], back: str) -> HttpResponse:
        """Ask first, by a page that says what it means; then do it to each row and say what became of it."""
        if request.method != "POST" or CONFIRMED not in request.POST:
            context = {
                **self.admin_site.each_context(request),
                "title": f"{operation.title}?",
                "opts": self.opts,
                "operation": operation,
                "rows": rows,
                "back": back,
                "checkbox": helpers.ACTION_CHECKBOX_NAME,
                "bulk": helpers.ACTION_CHECKBOX_NAME in request.POST,
            }
            return TemplateResponse(request, "admin/confirm.html", context)
        actor, done = actor_of(request), 0
        for row in rows:
            try:
                operation.act(row, actor)
                done += 1
            except REFUSALS as refusal:
                self.message_user(request, f"{row}: {refusal}", messages.WARNING)
        if done:
            noun = self.opts.verbose_name if done == 1 else self.opts.verbose_name_plural
            self.message_user(request, f"{operation.title}: done for {done} {noun}.", messages.SUCCESS)
        return HttpResponseRedirect(back)

    # --- what is remembered ------------------------------------------------------------------------------------

    def audited(self, request: HttpRequest, verb: str, row: Any, change: str = "") -> None:
        """An edit in the console, in the audit trail."""
        target = getattr(row, "typed_id", "") or f"{self.opts.model_name}:{row.pk}"
        detail = {"what": str(row)[:200], "change": change}
        workspace = getattr(row, "workspace", None)
        audit.record(actor_of(request), f"{self.opts.model_name}.{verb}", target, detail, workspace)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self.audited(request, "add", obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        entry = super().log_change(request, obj, message)
        self.audited(request, "change", obj, str(entry.get_change_message()))
        return entry

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            self.audited(request, "delete", row)
        return super().log_deletions(request, queryset)


class LargeTableAdmin(ConsoleAdmin):
    """A table that may have many millions of rows: newest first, found by ids, never counted, never scanned."""

    paginator = InfinitePaginator
    sortable_by = ()
    ordering = ("-pk",)
    search_help_text = "A whole id finds; nothing else is searched here, since this table may be very large."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        condition = self.by_id(term)
        return (queryset.filter(**condition) if condition else queryset.none() if term else queryset), False
