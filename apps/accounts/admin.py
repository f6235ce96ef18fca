"""People and what they may do, in the console. Nothing that opens a door is ever shown."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import TabularInline
from unfold.decorators import action
from unfold.forms import AdminPasswordChangeForm, UserCreationForm

from apps.accounts import audit, services
from apps.accounts.models import ApiKey, AuditEntry, Membership, Role, Secret, SignInLink, User, Workspace
from apps.core.admin.base import ConsoleAdmin, LargeTableAdmin, Operation, actor_of, stamp, user_of
from apps.core.checks import name_errors

admin.site.unregister(Group)  # Windlass has roles by workspace, and staff; groups would mean nothing
admin.site.unregister(EmailAddress)


class MembershipsInline(TabularInline):
    model = Membership
    fields = readonly_fields = ("user", "workspace", "role")
    extra = 0
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        found: QuerySet[Membership] = super().get_queryset(request).select_related("user", "workspace")
        return found


class NewUserForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("email",)
        field_classes: dict[str, Any] = {}

    def clean_email(self) -> str:
        """Addresses are kept in lower case, as everywhere."""
        email: str = self.cleaned_data["email"].lower()
        if User.objects.filter(email=email).exists():
            raise ValidationError("There is a user with this e-mail address already.")
        return email


@admin.register(User)
class UserAdmin(ConsoleAdmin, DjangoUserAdmin):  # type: ignore[misc]
    """Staff disable people, make them staff and give them new passwords; only superusers change superusers."""

    hidden = ("password",)
    addable = True
    editable = ("email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")
    form = forms.ModelForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    add_fieldsets = ((None, {"fields": ("email", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("typed_id", "email", "first_name", "last_name")}),
        ("What they may do", {"fields": ("is_active", "is_staff", "is_superuser")}),
        ("Since when", {"fields": ("date_joined", "last_login")}),
    )
    filter_horizontal = ()
    list_display = ("email", "first_name", "last_name", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "first_name", "last_name")
    ordering = ("email",)
    inlines = (MembershipsInline,)

    def __init__(self, model: Any, admin_site: Any) -> None:
        super().__init__(model, admin_site)
        self.actions_detail = ["new_password"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if not self.has_view_permission(request):
            return False
        return bool(request.user.is_superuser or not (isinstance(obj, User) and obj.is_superuser))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Nobody locks themselves out, and staff make no superusers."""
        if obj is None:
            return []
        fixed = {"typed_id", "date_joined", "last_login"}
        if obj == request.user:
            fixed |= {"is_active", "is_staff", "is_superuser"}
        if not request.user.is_superuser:
            fixed |= {"is_superuser", "email"}
        return sorted(fixed)

    def get_inlines(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.inlines if obj else ()

    @action(description="New password", url_path="new-password", icon="password")
    def new_password(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:auth_user_password_change", args=(object_id,)))


class WorkspaceForm(forms.ModelForm):
    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        if errors := name_errors("slug", slug):
            raise ValidationError(str(errors[0]))
        return slug


@admin.register(Workspace)
class WorkspaceAdmin(ConsoleAdmin):
    """A slug stands in every address of its workspace, also those that callers of deployments have: it stays."""

    form = WorkspaceForm
    addable = True
    editable = ("name", "slug")
    list_display = ("name", "slug", "short_id", "created_at")
    search_fields = ("name", "slug")
    inlines = (MembershipsInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["typed_id", "slug", "created_at"] if obj else []

    def get_inlines(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.inlines if obj else ()

    def save_model(self, request: HttpRequest, obj: Workspace, form: Any, change: bool) -> None:
        """A new one has its maker as its admin, as one that the API made."""
        if change:
            super().save_model(request, obj, form, change)
            return
        made = services.create_workspace(actor_of(request), slug=obj.slug, name=obj.name, admin=user_of(request))
        obj.pk, obj.created_at, obj._state.adding = made.pk, made.created_at, False

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super(ConsoleAdmin, self).log_addition(request, obj, message)  # the service has it audited


class MembershipForm(forms.ModelForm):
    def clean_role(self) -> str:
        """Raises ValidationError where a workspace would be left without an admin."""
        role: str = self.cleaned_data["role"]
        if self.instance.pk and role != Role.ADMIN:
            Workspace.objects.select_for_update(no_key=True).get(pk=self.instance.workspace_id)
            admins = Membership.objects.filter(workspace_id=self.instance.workspace_id, role=Role.ADMIN)
            if not admins.exclude(pk=self.instance.pk).exists():
                raise ValidationError("This is the only admin of the workspace. Make somebody else admin first.")
        return role


@admin.register(Membership)
class MembershipAdmin(ConsoleAdmin):
    form = MembershipForm
    addable = True
    editable = ("user", "workspace", "role")
    fields = ("user", "workspace", "role")
    autocomplete_fields = ("user", "workspace")
    operations = (
        Operation(
            "remove",
            "Remove from the workspace",
            "They can't see this workspace any more. What they made there stays.",
            services.remove_member,
            icon="person_remove",
            danger=True,
        ),
    )
    list_display = ("user", "workspace", "role")
    list_display_links = ("user",)
    list_select_related = ("user", "workspace")
    list_filter = ("role", "workspace")
    search_fields = ("user__email", "workspace__slug")

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["user", "workspace"] if obj else []

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        found: QuerySet[Membership] = super().get_queryset(request).select_related("user", "workspace")
        return found

    def audited(self, request: HttpRequest, verb: str, row: Membership, change: str = "") -> None:
        """In the words of the API's own entries."""
        action_name = {"add": "member.add", "change": "member.role"}[verb]
        detail = {"email": row.user.email, "role": row.role, "via": "console"}
        audit.record(actor_of(request), action_name, row.user.typed_id, detail, row.workspace)


@admin.register(ApiKey)
class ApiKeyAdmin(ConsoleAdmin):
    hidden = ("sha256",)
    operations = (
        Operation(
            "revoke",
            "Revoke",
            "The API refuses it from now on, and every replica within 10 s. Nothing makes it work again.",
            services.revoke_api_key,
            icon="key_off",
            danger=True,
        ),
    )
    list_display = ("short_id", "name", "workspace", "hint", "role", "may_predict", "last_used_at", "revoked_at")
    list_select_related = ("workspace",)
    list_filter = ("role", "may_predict", ("revoked_at", admin.EmptyFieldListFilter), "workspace")
    search_fields = ("name", "hint")


@admin.register(Secret)
class SecretAdmin(ConsoleAdmin):
    hidden = ("sealed",)
    list_display = ("short_id", "name", "workspace", "created_at", "updated_at")
    list_select_related = ("workspace",)
    list_filter = ("workspace",)
    search_fields = ("name",)


@admin.register(SignInLink)
class SignInLinkAdmin(ConsoleAdmin):
    hidden = ("sha256",)
    fields = ("user", "expires_at", "used_at")
    list_display = ("user", "expires_at", "used_at")
    list_select_related = ("user",)
    search_fields = ("user__email",)


@admin.register(EmailAddress)
class EmailAddressAdmin(ConsoleAdmin):
    list_display = ("email", "user", "verified", "primary")
    list_select_related = ("user",)
    search_fields = ("email",)


@admin.register(AuditEntry)
class AuditEntryAdmin(LargeTableAdmin):
    list_display = (stamp("at"), "actor_name", "action", "target", "workspace", "address", "request_id")
    list_select_related = ("workspace",)
    list_filter = ("workspace",)
    search_fields = ("target",)
    search_help_text = "An action (key.revoke), a whole id of what or of who, or the id of a request."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        who = Q(actor=term) | Q(actor__in=(f"user:{term}", f"key:{term}"))
        return queryset.filter(who | Q(target=term) | Q(action=term) | Q(request_id=term)), False
