"""Cloud accounts and offers in the API."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role
from apps.clouds import services
from apps.clouds.models import CloudAccount, Offer
from apps.clouds.providers import PROVIDERS
from apps.core.api.fields import MANAGED_FIELDS, AnyObject, Input, ManagedSerializer
from apps.core.api.filters import ManagedFilters
from apps.core.api.views import READ_RULES, Deletable, Listed, ManagedView, WorkspaceView

ADMIN = Role.ADMIN.value
CREDENTIALS_HELP = (
    "Of ec2: access_key_id, secret_access_key and, for short-lived ones, session_token. They are sealed at once, and "
    "never shown again."
)


class FindingSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    fix = serializers.CharField()


class CloudAccountSerializer(ManagedSerializer):
    """Its credentials are never shown again."""

    findings = FindingSerializer(many=True, read_only=True, help_text="What the last check found missing.")

    class Meta:
        model = CloudAccount
        fields: tuple[str, ...] = (
            *MANAGED_FIELDS,
            "name",
            "provider",
            "region",
            "identity",
            "findings",
            "checked_at",
            "throttled_until",
        )


class CloudAccountDetailSerializer(CloudAccountSerializer):
    strays = serializers.SerializerMethodField(
        help_text="What carries this installation's tags in the cloud and belongs to no cluster of it: what it is, "
        "where, and what it has cost since it was first seen. Windlass never removes it: the cloud's console does."
    )

    class Meta(CloudAccountSerializer.Meta):
        fields = (*CloudAccountSerializer.Meta.fields, "strays")

    def get_strays(self, row: CloudAccount) -> list[dict[str, Any]]:
        return services.strays(row)


class CloudAccountChange(Input):
    region = serializers.CharField(max_length=40, required=False)
    credentials = AnyObject(
        required=False,
        help_text=CREDENTIALS_HELP,
    )


class CloudAccountInput(Input):
    name = serializers.CharField(max_length=80)
    provider = serializers.CharField(max_length=20, help_text=f"One of: {', '.join(PROVIDERS)}.")
    region = serializers.CharField(max_length=40, help_text="Where clusters of this account stand.")
    credentials = AnyObject(help_text=CREDENTIALS_HELP)


class CloudAccountFilters(ManagedFilters):
    name = django_filters.CharFilter()
    provider = django_filters.CharFilter()

    class Meta:
        model = CloudAccount
        fields = ()


class CloudAccountView(Deletable, ManagedView):
    """The right to buy machines from a cloud service."""

    model = CloudAccount
    rules: ClassVar = {
        "list": ADMIN,
        "retrieve": ADMIN,
        "create": ADMIN,
        "partial_update": ADMIN,
        "destroy": ADMIN,
        "check": ADMIN,
    }
    filterset_class = CloudAccountFilters

    def get_serializer_class(self) -> type[CloudAccountSerializer]:
        return CloudAccountSerializer if self.action == "list" else CloudAccountDetailSerializer

    @extend_schema(request=CloudAccountInput, responses={201: CloudAccountDetailSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        """A worker then asks the cloud who these credentials are and what they may do: see `findings`."""
        given = self.body(CloudAccountInput)
        return self.answer(services.create_account(self.workspace, self.actor, **given), 201)

    @extend_schema(request=CloudAccountChange, responses={202: CloudAccountDetailSerializer})
    def partial_update(self, request: Request, workspace: str, id: str) -> Response:
        """Give it other credentials or another region; it is checked anew."""
        given, generation = self.body(CloudAccountChange), self.if_generation()
        changed = services.change_account(self.get_object(), self.actor, **given, if_generation=generation)
        return self.answer(changed, 202)

    @extend_schema(request=None, responses={202: CloudAccountDetailSerializer})
    @action(detail=True, methods=["post"], url_path="check", url_name="check")
    def check(self, request: Request, workspace: str, id: str) -> Response:
        """Have it checked now, rather than at its next time."""
        return self.answer(services.check_account(self.get_object(), self.actor, self.if_generation()), 202)

    def check_unused(self, row: CloudAccount) -> None:
        services.check_account_unused(row)


class OfferSerializer(serializers.ModelSerializer[Offer]):
    class Meta:
        model = Offer
        fields = (
            "provider",
            "region",
            "machine_type",
            "cpus",
            "memory_bytes",
            "gpus",
            "price_usd_per_hour",
            "as_of",
        )


class OfferFilters(django_filters.FilterSet):
    provider = django_filters.CharFilter()
    region = django_filters.CharFilter()
    machine_type = django_filters.CharFilter()
    cpus_at_least = django_filters.NumberFilter(field_name="cpus", lookup_expr="gte")
    memory_bytes_at_least = django_filters.NumberFilter(field_name="memory_bytes", lookup_expr="gte")
    gpus_at_least = django_filters.NumberFilter(field_name="gpus", lookup_expr="gte")

    class Meta:
        model = Offer
        fields = ()


class OfferView(Listed, WorkspaceView):
    """Machine types with their price in US dollars an hour, as it was on the day `as_of`; for all workspaces."""

    model = Offer
    serializer_class = OfferSerializer
    filterset_class = OfferFilters
    rules: ClassVar = {"list": READ_RULES["list"]}

    def get_queryset(self) -> QuerySet[Any]:
        return Offer.objects.all()
