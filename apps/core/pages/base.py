"""The base of every page below /w/{workspace}/: who asks, in which workspace, with which role; and how it may go wrong.

A page of another workspace answers as if it did not exist. What a service refuses becomes a sentence on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.views import View

from apps.accounts.auth import Access, access_of
from apps.accounts.models import Membership, Role, Workspace
from apps.core.actor import Actor
from apps.core.api.problems import as_known
from apps.core.checks import Row, find
from apps.core.errors import Conflict, FieldError, Forbidden, Invalid, Missing, invalid
from apps.core.page import Crumb, Page
from apps.core.pages import once

LAST_WORKSPACE = "workspace"
YEAR_SECONDS = 365 * 86_400


class WorkspacePage(View):
    """`section`: the item of the navigation that is current. `writes`: the least role for a POST."""

    section: ClassVar[str] = "overview"
    reads: ClassVar[str] = Role.VIEWER.value
    writes: ClassVar[str] = Role.DEVELOPER.value
    access: Access
    http_method_names = ["get", "head", "post"]

    @property
    def workspace(self) -> Workspace:
        return self.access.workspace

    @property
    def actor(self) -> Actor:
        return self.access.actor

    @property
    def root(self) -> str:
        return f"/w/{self.workspace.slug}/"

    @property
    def may_write(self) -> bool:
        return self.access.may(self.writes)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        try:
            self.access = access_of(request, kwargs.pop("workspace"))
            request.page_access, request.page_section = self.access, self.section  # type: ignore[attr-defined]
            self.access.require(self.writes if request.method == "POST" else self.reads)
            return super().dispatch(request, *args, **kwargs)
        except Missing:
            return not_found(request)
        except Forbidden as error:
            return self._not_allowed(error)
        except Exception as error:
            problem = as_known(error) if request.method == "POST" else None
            if problem is None:
                raise
            messages.error(request, " ".join([problem.detail, *self._fixes(problem.errors, problem.detail)]))
            return HttpResponseRedirect(self.after_refusal())

    def _fixes(self, errors: Sequence[Any], said: str) -> list[str]:
        return [error.fix for error in errors[:1] if error.fix and error.fix not in said]

    def after_refusal(self) -> str:
        """Where a refused POST leads back to: the page that the form stood on."""
        return self.request.path.rsplit("/", 2)[0] + "/" if not self.request.path.endswith("/") else self.request.path

    def _not_allowed(self, error: Forbidden) -> HttpResponse:
        admins = Membership.objects.filter(workspace=self.workspace, role=Role.ADMIN).select_related("user")
        names = ", ".join(member.user.get_full_name() or member.user.email for member in admins[:3])
        refusal = f"{error.detail.removesuffix(' Ask an admin of it.')} Nothing was changed. Ask an admin: {names}."
        return render(self.request, "403.html", {"refusal": refusal, "home_url": self.root}, status=403)

    def row(self, model: type[Row], typed_id: str, *select: str) -> Row:
        """The row that the URL names. Raises Missing."""
        return find(model, self.workspace, typed_id, select)

    def url(self, *parts: str) -> str:
        """/w/{workspace}/part/part/"""
        return "".join([self.root, *(f"{part}/" for part in parts)])

    def page(self, template: str, page: Page, status: int = 200, **context: Any) -> HttpResponse:
        response = render(
            self.request,
            template,
            {"page": page, "may_write": self.may_write, "root": self.root, **context},
            status=status,
        )
        if self.request.COOKIES.get(LAST_WORKSPACE) != self.workspace.slug:
            response.set_cookie(
                LAST_WORKSPACE,
                self.workspace.slug,
                YEAR_SECONDS,
                samesite="Lax",
                httponly=True,
                secure=self.request.is_secure(),
            )
        response["Cache-Control"] = "no-store"
        return response

    def crumbs(self, *steps: tuple[str, str] | str) -> list[Crumb]:
        return [Crumb(step) if isinstance(step, str) else Crumb(*step) for step in steps]

    def act(self, work: Callable[[], str], said: str = "") -> HttpResponseRedirect:
        """Do what a form asks for, once for its key, and go to the address that `work` returns."""
        return once.once(self.request, self.actor, work, said)

    def confirmed(self, name: str) -> None:
        """The name that a danger dialog had typed. Raises Invalid unless it is this one."""
        if self.request.POST.get("confirm", "").strip() != name:
            raise invalid("confirm", f"The name that was typed is not “{name}”, so nothing was done.", "Type it again.")


class Posted(WorkspacePage):
    """An address that only takes a form."""

    http_method_names = ["post"]


def add_errors(form: Any, refusal: Invalid | Conflict, names: dict[str, str] | None = None) -> None:
    """A service's refusal at the fields of a form; what belongs to no field stands above it."""
    for error in refusal.errors or (FieldError("", refusal.detail),):
        field = (names or {}).get(error.field, error.field)
        field = field if field in form.fields else field.rpartition(".")[2]
        form.add_error(field if field in form.fields else None, str(error))


def not_found(request: HttpRequest) -> HttpResponse:
    access = getattr(request, "page_access", None)
    return render(request, "404.html", {"home_url": f"/w/{access.workspace.slug}/" if access else "/"}, status=404)
