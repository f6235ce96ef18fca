"""Who am I; keys, members, secrets and the audit trail of a workspace."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import services
from apps.accounts.auth import KeyHolder
from apps.accounts.models import ApiKey, AuditEntry, Membership, Role, Secret, User
from apps.core import ids
from apps.core.api.fields import Input
from apps.core.api.views import SIGNED_IN, ApiView, Listed, Retrieved, WorkspaceView
from apps.core.errors import Missing

ADMIN = Role.ADMIN.value


class WorkspaceSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    role = serializers.CharField()


class MeSerializer(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField(allow_null=True)
    key = serializers.CharField(allow_null=True, help_text="The id of the API key that asks.")
    workspaces = WorkspaceSerializer(many=True)


class MeView(ApiView):
    """Whoever asks."""

    rules: ClassVar = {"retrieve": SIGNED_IN}
    serializer_class = MeSerializer
    pagination_class = None
    filter_backends = ()

    @extend_schema(responses=MeSerializer)
    def retrieve(self, request: Request) -> Response:
        user: Any = request.user
        if isinstance(user, KeyHolder):
            key = user.key
            places = [(key.workspace, key.role)]
            who = {"id": key.typed_id, "name": key.name, "email": None, "key": key.typed_id}
        else:
            found = Membership.objects.filter(user=user).select_related("workspace").order_by("workspace__slug")
            places = [(item.workspace, item.role) for item in found]
            who = {"id": user.typed_id, "name": user.actor.name, "email": user.email, "key": None}
        workspaces = [{"slug": place.slug, "name": place.name, "role": role} for place, role in places]
        return Response({**who, "workspaces": workspaces})


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    id = serializers.CharField(source="typed_id", read_only=True)

    class Meta:
        model = ApiKey
        fields = (
            "id",
            "name",
            "hint",
            "role",
            "may_predict",
            "deployments",
            "requests_per_minute",
            "created_at",
            "created_by",
            "expires_at",
            "revoked_at",
            "last_used_at",
        )


class NewApiKeySerializer(ApiKeySerializer):
    key = serializers.CharField(help_text="The secret. It is shown this once.")

    class Meta(ApiKeySerializer.Meta):
        fields = ("key", *ApiKeySerializer.Meta.fields)  # type: ignore[assignment]


class ApiKeyInput(Input):
    name = serializers.CharField(max_length=80)
    role = serializers.ChoiceField(
        choices=Role.choices, required=False, allow_blank=True, help_text="In the API; none if not given."
    )
    may_predict = serializers.BooleanField(required=False)
    deployments = serializers.ListField(
        child=serializers.CharField(), required=False, max_length=200, help_text="Those it may ask; empty: all."
    )
    requests_per_minute = serializers.IntegerField(required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class ApiKeyFilters(django_filters.FilterSet):
    revoked = django_filters.BooleanFilter(field_name="revoked_at", lookup_expr="isnull", exclude=True)
    name = django_filters.CharFilter()


class ApiKeyView(Listed, Retrieved, WorkspaceView):
    """Keys for the API and for predictions."""

    model = ApiKey
    serializer_class = ApiKeySerializer
    filterset_class = ApiKeyFilters
    rules: ClassVar = {"list": ADMIN, "retrieve": ADMIN, "create": ADMIN, "destroy": ADMIN}

    @extend_schema(request=ApiKeyInput, responses={201: NewApiKeySerializer})
    def create(self, request: Request, workspace: str) -> Response:
        new = services.create_api_key(self.workspace, self.actor, **self.body(ApiKeyInput))
        new.key.refresh_from_db(fields=["created_at"])
        return Response({"key": new.secret, **ApiKeySerializer(new.key).data}, status=201)

    @extend_schema(responses={200: ApiKeySerializer})
    def destroy(self, request: Request, workspace: str, id: str) -> Response:
        """Revoke it: the API refuses it at once, deployments within 10 s. It stays in the list."""
        return self.answer(services.revoke_api_key(self.get_object(), self.actor))


class MemberSerializer(serializers.ModelSerializer[Membership]):
    id = serializers.CharField(source="user.typed_id", read_only=True)
    email = serializers.CharField(source="user.email", read_only=True)
    name = serializers.CharField(source="user.get_full_name", read_only=True)

    class Meta:
        model = Membership
        fields = ("id", "email", "name", "role")


class NewMemberSerializer(MemberSerializer):
    sign_in_link = serializers.CharField(help_text="Signs a new user in once, within 24 hours; shown this once.")

    class Meta(MemberSerializer.Meta):
        fields = (*MemberSerializer.Meta.fields, "sign_in_link")  # type: ignore[assignment]


class RoleInput(Input):
    role = serializers.ChoiceField(choices=Role.choices)


class MemberInput(RoleInput):
    email = serializers.CharField(max_length=254)


class MemberView(Listed, Retrieved, WorkspaceView):
    """Who is in the workspace, and as what."""

    model = Membership
    select = ("user",)
    serializer_class = MemberSerializer
    rules: ClassVar = {
        "list": Role.VIEWER.value,
        "retrieve": Role.VIEWER.value,
        "create": ADMIN,
        "partial_update": ADMIN,
        "destroy": ADMIN,
    }

    def get_object(self) -> Membership:
        try:
            row_id = ids.parse(User.prefix, self.kwargs["id"])
            return self.get_queryset().get(user=row_id)
        except (ValueError, Membership.DoesNotExist) as error:
            raise Missing(f"There is no member “{self.kwargs['id'][:60]}” in this workspace.") from error

    @extend_schema(request=MemberInput, responses={201: NewMemberSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        """Let somebody in; who is new here gets a link that signs in once."""
        new = services.add_member(self.workspace, self.actor, **self.body(MemberInput))
        link = f"{settings.WINDLASS_PUBLIC_URL}/accounts/link/{new.link_token}" if new.link_token else ""
        return Response({**MemberSerializer(new.membership).data, "sign_in_link": link}, status=201)

    @extend_schema(request=RoleInput)
    def partial_update(self, request: Request, workspace: str, id: str) -> Response:
        row = self.get_object()
        return self.answer(services.set_role(row, self.actor, self.body(RoleInput)["role"]))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, workspace: str, id: str) -> Response:
        services.remove_member(self.get_object(), self.actor)
        return Response(status=204)


class SecretSerializer(serializers.ModelSerializer[Secret]):
    id = serializers.CharField(source="typed_id", read_only=True)

    class Meta:
        model = Secret
        fields = ("id", "name", "created_at", "updated_at")


class SecretInput(Input):
    name = serializers.CharField(max_length=60)
    value = serializers.CharField(trim_whitespace=False, help_text="Never shown again.")


class SecretView(Listed, Retrieved, WorkspaceView):
    """Values that workloads get as files. They can be set and removed, never read."""

    model = Secret
    serializer_class = SecretSerializer
    rules: ClassVar = {
        "list": Role.DEVELOPER.value,
        "retrieve": Role.DEVELOPER.value,
        "create": ADMIN,
        "destroy": ADMIN,
    }

    @extend_schema(request=SecretInput, responses={201: SecretSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        """Make it, or give the one of this name another value."""
        return self.answer(services.set_secret(self.workspace, self.actor, **self.body(SecretInput)), 201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, workspace: str, id: str) -> Response:
        services.remove_secret(self.get_object(), self.actor)
        return Response(status=204)


class AuditSerializer(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = ("id", "at", "actor", "actor_name", "address", "request_id", "action", "target", "detail")


class AuditFilters(django_filters.FilterSet):
    action = django_filters.CharFilter()
    actor = django_filters.CharFilter()
    target = django_filters.CharFilter()
    since = django_filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")


class AuditView(Listed, WorkspaceView):
    """Every security-relevant act in the workspace; never changed, never removed."""

    model = AuditEntry
    serializer_class = AuditSerializer
    filterset_class = AuditFilters
    rules: ClassVar = {"list": ADMIN}
