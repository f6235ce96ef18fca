"""The settings: API keys, members, secrets and the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from apps.accounts import services
from apps.accounts.forms import ROLE_HELP, KeyForm, MemberForm, SecretForm
from apps.accounts.models import ApiKey, AuditEntry, Membership, Role, Secret, Workspace
from apps.core import ids
from apps.core.checks import whole
from apps.core.errors import Conflict, Invalid, Missing
from apps.core.page import Crumb, Page, Pill, Tab
from apps.core.pages.base import Posted, WorkspacePage, add_errors
from apps.core.pages.lists import PAGE_ROWS
from apps.core.pages.once import pressed_before
from apps.core.phases import DELETED
from apps.deployments.models import Deployment

TABS = (("keys", "API keys"), ("members", "Members"), ("secrets", "Secrets"), ("audit", "Audit trail"))
LEADS = {
    "keys": "Keys for the API and for predictions. A secret is shown once; revoked keys are refused within 10 s.",
    "members": "Who may do what in this workspace.",
    "secrets": "Values that workloads are given as files. They are stored encrypted and never shown again.",
    "audit": "Every security-relevant act, by whom and from where. Entries are never changed or removed.",
}


class SettingsPage(WorkspacePage):
    section = "settings"
    writes = Role.ADMIN.value
    tab = "keys"

    def settings_page(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        label = dict(TABS)[self.tab]
        page = Page(
            "Settings",
            LEADS[self.tab],
            breadcrumbs=[Crumb("Settings", self.url("settings")), Crumb(label)],
            tabs=[Tab(words, self.url("settings", name), name == self.tab) for name, words in TABS],
            state=label,
        )
        return self.page(template, page, status, needs_admin="" if self.may_write else self.why_not(), **context)

    def why_not(self) -> str:
        return f"Your role is {self.access.role}; changing this needs admin."


class Settings(SettingsPage):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(self.url("settings", "keys"))


def key_pill(key: ApiKey) -> Pill:
    if key.revoked_at:
        return Pill("off", "Revoked")
    if key.expires_at and key.expires_at <= timezone.now():
        return Pill("off", "Ended")
    return Pill("ok", "Active")


def key_may(key: ApiKey) -> str:
    parts = [Role(key.role).label.lower() + " in the API"] if key.role else []
    if key.may_predict:
        count = len(key.deployments)
        parts.append("asks all deployments" if not count else f"asks {count} deployment{'s' if count > 1 else ''}")
    if key.requests_per_minute:
        parts.append(f"at most {key.requests_per_minute:,} a minute")
    return ", ".join(parts)


class Keys(SettingsPage):
    """A new key's secret is in the answer to the POST, and nowhere else."""

    tab = "keys"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(self.form())

    def form(self, data: Any = None) -> KeyForm:
        there = Deployment.objects.filter(workspace=self.workspace).exclude(phase=DELETED).order_by("name")
        return KeyForm(data, deployments=[(row.typed_id, row.name) for row in there])

    def show(self, form: KeyForm, status: int = 200, secret: str = "", made: ApiKey | None = None) -> HttpResponse:
        keys = list(ApiKey.objects.filter(workspace=self.workspace).order_by("revoked_at", "-id")[:200])
        lines = [
            (key, key_pill(key), key_may(key), f"{self.url('settings', 'keys', key.typed_id)}revoke") for key in keys
        ]
        return self.settings_page("accounts/keys.html", status, lines=lines, form=form, secret=secret, made=made)

    def post(self, request: HttpRequest) -> HttpResponse:
        form = self.form(request.POST)
        if not form.is_valid():
            return self.show(form, 422)
        values = form.cleaned_data
        ends = values["expires_at"]
        try:
            with transaction.atomic():
                if pressed_before(request, self.actor):
                    return HttpResponseRedirect(request.path)
                new = services.create_api_key(
                    self.workspace,
                    self.actor,
                    name=values["name"],
                    role=values["role"],
                    may_predict=values["may_predict"],
                    deployments=values.get("deployments") or [],
                    requests_per_minute=values["requests_per_minute"],
                    expires_at=datetime.combine(ends, time.max, UTC) if ends else None,
                )
        except (Invalid, Conflict) as refusal:
            add_errors(form, refusal)
            return self.show(form, 422)
        return self.show(self.form(), 201, new.secret, new.key)


class RevokeKey(Posted, SettingsPage):
    def post(self, request: HttpRequest, key_id: str) -> HttpResponse:
        key = self.row(ApiKey, key_id)

        def work() -> str:
            services.revoke_api_key(key, self.actor)
            return self.url("settings", "keys")

        return self.act(work, f"Revoked “{key.name}”. Replicas refuse it within 10 s.")

    def after_refusal(self) -> str:
        return self.url("settings", "keys")


class MembersPage(SettingsPage):
    tab = "members"

    def show(
        self, form: MemberForm, status: int = 200, link: str = "", email: str = "", added: bool = True
    ) -> HttpResponse:
        members = Membership.objects.filter(workspace=self.workspace).select_related("user").order_by("user__email")
        lines = [
            (member, self.url("settings", "members", member.user.typed_id), member.user_id == self.request.user.pk)
            for member in members[:500]
        ]
        return self.settings_page(
            "accounts/members.html",
            status,
            lines=lines,
            form=form,
            link=link,
            email=email,
            added=added,
            roles=ROLE_HELP.items(),
        )


class Members(MembersPage):
    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(MemberForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = MemberForm(request.POST)
        if not form.is_valid():
            return self.show(form, 422)
        email = form.cleaned_data["email"]
        try:
            with transaction.atomic():
                if pressed_before(request, self.actor):
                    return HttpResponseRedirect(request.path)
                new = services.add_member(self.workspace, self.actor, email=email, role=form.cleaned_data["role"])
        except (Invalid, Conflict) as refusal:
            add_errors(form, refusal)
            return self.show(form, 422)
        return self.show(MemberForm(), 201, link_address(new.link_token), email)


def member_of(workspace: Workspace, user_id: str) -> Membership:
    """Raises Missing."""
    try:
        key = ids.parse("usr", user_id)
    except ValueError as error:
        raise Missing(str(error)) from error
    found = Membership.objects.filter(workspace=workspace, user=key).select_related("user", "workspace").first()
    if found is None:
        raise Missing("There is no such member.")
    return found


def link_address(token: str) -> str:
    return f"{settings.WINDLASS_PUBLIC_URL}/accounts/link/{token}" if token else ""


class NewLink(MembersPage):
    """For a member who set no password and lost the session. Shown once, like a key."""

    def post(self, request: HttpRequest, user_id: str) -> HttpResponse:
        member = member_of(self.workspace, user_id)
        try:
            token = services.new_link(member, self.actor)
        except Conflict as refusal:
            form = MemberForm({})
            form.errors.clear()
            form.add_error(None, refusal.detail)
            return self.show(form, 409)
        return self.show(MemberForm(), 201, link_address(token), member.user.email, added=False)


class ChangeMember(Posted, SettingsPage):
    """`act_name`: role or remove."""

    act_name = ""

    def post(self, request: HttpRequest, user_id: str) -> HttpResponse:
        member = member_of(self.workspace, user_id)
        role = request.POST.get("role", "")

        def work() -> str:
            if self.act_name == "remove":
                services.remove_member(member, self.actor)
            else:
                services.set_role(member, self.actor, role)
            return self.url("settings", "members")

        said = (
            f"{member.user.email} is no member any more."
            if self.act_name == "remove"
            else f"{member.user.email} is {role} now."
        )
        return self.act(work, said)

    def after_refusal(self) -> str:
        return self.url("settings", "members")


class Secrets(SettingsPage):
    tab = "secrets"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(SecretForm())

    def show(self, form: SecretForm, status: int = 200) -> HttpResponse:
        secrets = Secret.objects.filter(workspace=self.workspace).order_by("name")[:500]
        lines = [(secret, f"{self.url('settings', 'secrets', secret.typed_id)}delete") for secret in secrets]
        return self.settings_page("accounts/secrets.html", status, lines=lines, form=form)

    def post(self, request: HttpRequest) -> HttpResponse:
        form = SecretForm(request.POST)
        if not form.is_valid():
            return self.show(form, 422)
        values = form.cleaned_data

        def work() -> str:
            services.set_secret(self.workspace, self.actor, name=values["name"], value=values["value"])
            return self.url("settings", "secrets")

        try:
            return self.act(work, f"Stored {values['name']}. Workloads that start from now on get it.")
        except (Invalid, Conflict) as refusal:
            add_errors(form, refusal)
            return self.show(form, 422)


class DeleteSecret(Posted, SettingsPage):
    def post(self, request: HttpRequest, secret_id: str) -> HttpResponse:
        secret = self.row(Secret, secret_id)

        def work() -> str:
            services.remove_secret(secret, self.actor)
            return self.url("settings", "secrets")

        return self.act(work, f"Deleted {secret.name}.")

    def after_refusal(self) -> str:
        return self.url("settings", "secrets")


class Audit(SettingsPage):
    tab = "audit"
    reads = Role.ADMIN.value

    def get(self, request: HttpRequest) -> HttpResponse:
        entries = AuditEntry.objects.filter(workspace=self.workspace)
        before = request.GET.get("before", "")
        if (last := whole(before)) is not None:
            entries = entries.filter(id__lt=last)
        found: Sequence[AuditEntry] = list(entries.order_by("-id")[: PAGE_ROWS + 1])
        older = f"?before={found[PAGE_ROWS - 1].pk}" if len(found) > PAGE_ROWS else ""
        lines = [
            (entry, ", ".join(f"{name}: {value}" for name, value in entry.detail.items())[:300])
            for entry in found[:PAGE_ROWS]
        ]
        return self.settings_page("accounts/audit.html", lines=lines, older=older)
