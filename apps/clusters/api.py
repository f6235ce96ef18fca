"""Clusters and hosts in the API."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.auth import require_staff
from apps.accounts.models import Role
from apps.clouds.models import CloudAccount
from apps.clusters import services
from apps.clusters.joining import invite_host
from apps.clusters.ledger import HOURS_A_MONTH, cost_usd, total_usd
from apps.clusters.models import CloudResource, Cluster, Host
from apps.core import ids
from apps.core.api.fields import MANAGED_FIELDS, AnyObject, Input, ManagedSerializer, TypedId
from apps.core.api.filters import ManagedFilters, RelatedFilter
from apps.core.api.parameters import yes
from apps.core.api.views import READ_RULES, Deletable, Listed, ManagedView, Retrieved, WorkspaceView
from apps.core.checks import related
from apps.core.errors import FieldError, Invalid, Missing
from apps.placements.models import Place
from apps.placements.places_api import AmountSerializer

ADMIN = Role.ADMIN.value
BOUGHT = ("machine_type", "machines", "disk_gib", "network", "allowed_cidrs", "allow_anyone", "approve")
BROUGHT = ("namespace", "reach")
FORCE = OpenApiParameter(
    "force", bool, description="Also while somebody's work is there: they lose what runs, and runs are tried elsewhere."
)


class ClusterSerializer(ManagedSerializer):
    account = TypedId(CloudAccount.prefix, source="account_id")
    price_usd_per_month = serializers.SerializerMethodField(help_text=f"Of {HOURS_A_MONTH} hours.")
    place = serializers.SerializerMethodField(help_text="What runs and deployments name to stand there; once joined.")
    capacity = serializers.SerializerMethodField(help_text="What its machines have in all; once joined.")

    class Meta:
        model = Cluster
        fields: tuple[str, ...] = (
            *MANAGED_FIELDS,
            "name",
            "provider",
            "account",
            "region",
            "machine_type",
            "machines",
            "disk_gib",
            "network",
            "allowed_cidrs",
            "namespace",
            "reach",
            "approved",
            "price_usd_per_hour",
            "price_usd_per_month",
            "ready_at",
            "place",
            "capacity",
        )

    def get_price_usd_per_month(self, row: Cluster) -> float:
        return round(row.price_usd_per_hour * HOURS_A_MONTH, 2)

    def get_place(self, row: Cluster) -> str | None:
        place = place_of(row)
        return place.typed_id if place else None

    @extend_schema_field(AmountSerializer(allow_null=True))
    def get_capacity(self, row: Cluster) -> Any:
        place = place_of(row)
        return AmountSerializer(place.total).data if place else None


def place_of(row: Cluster) -> Place | None:
    """Where its workloads stand, while it is there."""
    place: Place | None = getattr(row, "place", None)
    return place if place and not place.gone_at else None


class PlanLineSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    kind = serializers.CharField()
    what = serializers.CharField()
    price_usd_per_hour = serializers.FloatField()


class ResourceSerializer(serializers.ModelSerializer[CloudResource]):
    """A line of the ledger: it is kept when the resource is gone."""

    since = serializers.DateTimeField(source="intended_at", read_only=True)
    cost_usd = serializers.SerializerMethodField(help_text="So far.")

    class Meta:
        model = CloudResource
        fields = (
            "key",
            "kind",
            "name",
            "cloud_id",
            "region",
            "state",
            "attempt",
            "price_usd_per_hour",
            "since",
            "seen_at",
            "gone_at",
            "cost_usd",
        )

    def get_cost_usd(self, row: CloudResource) -> float:
        return round(cost_usd(row), 4)


class ClusterDetailSerializer(ClusterSerializer):
    """Its kubeconfig and credentials are never shown."""

    plan = PlanLineSerializer(many=True, read_only=True, help_text="What will be made, in this order.")
    resources = ResourceSerializer(many=True, read_only=True)
    cost_usd = serializers.SerializerMethodField(help_text="Of all its resources so far.")

    class Meta(ClusterSerializer.Meta):
        fields = (*ClusterSerializer.Meta.fields, "plan", "resources", "cost_usd")

    def get_cost_usd(self, row: Cluster) -> float:
        return round(total_usd(row.resources.all()), 4)


class KubeconfigInput(Input):
    kubeconfig = serializers.CharField(trim_whitespace=False, help_text="YAML, with its certificates in it; sealed.")


class ClusterInput(Input):
    """Either what is to be bought from an account, or the kubeconfig of a Kubernetes that is there."""

    name = serializers.CharField(max_length=80)
    account = serializers.CharField(required=False, help_text="The cloud account that machines are bought from.")
    machine_type = serializers.CharField(max_length=40, required=False, help_text="One of those at /offers.")
    machines = serializers.IntegerField(required=False, help_text="How many; the first one is the control plane too.")
    disk_gib = serializers.IntegerField(required=False, help_text="Of each machine.")
    network = AnyObject(required=False, help_text='{"cidr"} of its own, or {"vpc_id"} of one that is there.')
    allowed_cidrs = serializers.ListField(
        child=serializers.CharField(max_length=60),
        required=False,
        help_text="From where its API and its replicas can be reached; from nowhere if empty.",
    )
    allow_anyone = serializers.BooleanField(required=False, help_text="Take 0.0.0.0/0 among allowed_cidrs.")
    approve = serializers.BooleanField(required=False, help_text="Buy what the plan says, without asking again.")
    kubeconfig = serializers.CharField(
        required=False, trim_whitespace=False, help_text="YAML, with its certificates in it; sealed, never shown again."
    )
    namespace = serializers.CharField(max_length=63, required=False)
    reach = serializers.CharField(
        max_length=8, required=False, help_text="Where the gateway finds replicas: pods, or nodes (a port of theirs)."
    )


class ClusterFilters(ManagedFilters):
    name = django_filters.CharFilter()
    provider = django_filters.CharFilter()
    account = RelatedFilter(CloudAccount, field_name="account")

    class Meta:
        model = Cluster
        fields = ()


class ClusterView(Deletable, ManagedView):
    """A Kubernetes: bought from a cloud account, or one that is there. Runs and deployments stand on its place."""

    model = Cluster
    select = ("place__host", "place__cluster")
    rules: ClassVar = {
        **READ_RULES,
        "create": ADMIN,
        "partial_update": ADMIN,
        "destroy": ADMIN,
        "approve": ADMIN,
        "stop": ADMIN,
    }
    filterset_class = ClusterFilters

    def get_serializer_class(self) -> type[ClusterSerializer]:
        return ClusterSerializer if self.action == "list" else ClusterDetailSerializer

    @extend_schema(request=ClusterInput, responses={201: ClusterDetailSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        """Want a cluster. One that is bought is planned first, and waits for approval unless `approve` is true."""
        given = self.body(ClusterInput)
        if "kubeconfig" in given:
            refuse(given, ("account", *BOUGHT), "A cluster that is there already has no {}.")
            return self.answer(services.bring_cluster(self.workspace, self.actor, **given), 201)
        refuse(given, BROUGHT, "A cluster that is bought has no {} to choose.")
        missing = [name for name in ("account", "machine_type") if name not in given]
        if missing:
            fix = "Send it; or a kubeconfig, for a Kubernetes that is there."
            raise Invalid(*(FieldError(name, "A cluster that is bought needs it.", fix) for name in missing))
        given["account"] = related(CloudAccount, self.workspace, given["account"], "account")
        return self.answer(services.buy_cluster(self.workspace, self.actor, **given), 201)

    @extend_schema(request=KubeconfigInput, responses={202: ClusterDetailSerializer})
    def partial_update(self, request: Request, workspace: str, id: str) -> Response:
        """Give a cluster that was brought new credentials."""
        kubeconfig, generation = self.body(KubeconfigInput)["kubeconfig"], self.if_generation()
        return self.answer(services.change_kubeconfig(self.get_object(), self.actor, kubeconfig, generation), 202)

    @extend_schema(request=None, responses={202: ClusterDetailSerializer})
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, workspace: str, id: str) -> Response:
        """Buy what its plan says. From then on it costs its price an hour until it is stopped or deleted."""
        return self.answer(services.approve_cluster(self.get_object(), self.actor, self.if_generation()), 202)

    @extend_schema(request=None, parameters=[FORCE], responses={202: ClusterDetailSerializer})
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, workspace: str, id: str) -> Response:
        """Take back all that was bought. Its rows stay, with what it has cost; it does not start again."""
        force, generation = yes(request, "force"), self.if_generation()
        return self.answer(
            services.stop_cluster(self.get_object(), self.actor, force=force, if_generation=generation), 202
        )

    @extend_schema(parameters=[FORCE])
    def destroy(self, request: Request, workspace: str, id: str) -> Response:
        """Take back all that was bought, and then the cluster's row. Refused while somebody's work is there."""
        return super().destroy(request, workspace, id)

    def check_unused(self, row: Cluster) -> None:
        if not yes(self.request, "force"):
            services.check_cluster_unused(row)


def refuse(given: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    """Raises Invalid for each of these that was sent."""
    if wrong := [name for name in names if name in given]:
        raise Invalid(*(FieldError(name, why.format(name), f"Leave {name} out.") for name in wrong))


class HostSerializer(serializers.ModelSerializer[Host]):
    id = serializers.CharField(source="typed_id", read_only=True)

    class Meta:
        model = Host
        fields = (
            "id",
            "name",
            "cpus",
            "memory_bytes",
            "gpus",
            "draining",
            "caged",
            "isolation",
            "disk_free_bytes",
            "heartbeat_at",
            "lost_at",
            "declared_dead_at",
            "created_at",
        )


class HostInput(Input):
    draining = serializers.BooleanField()


class InvitationInput(Input):
    name = serializers.CharField(max_length=100, help_text="What the host is to be called.")


class InvitationSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(source="invitation.typed_id")
    name = serializers.CharField(source="invitation.name")
    expires_at = serializers.DateTimeField(source="invitation.expires_at")
    token = serializers.CharField(help_text="Lets one machine join, once. Shown this once.")
    command = serializers.CharField(help_text="What is typed on that machine, in a checkout of the same version.")


class HostView(Listed, Retrieved, WorkspaceView):
    """Machines that run workloads; they belong to the installation, and all workspaces use them."""

    model = Host
    serializer_class = HostSerializer
    rules: ClassVar = {
        **READ_RULES,
        "invite": ADMIN,
        "partial_update": ADMIN,
        "declare_dead": ADMIN,
        "destroy": ADMIN,
    }

    def get_queryset(self) -> QuerySet[Any]:
        return Host.objects.all()

    def get_object(self) -> Host:
        try:
            return Host.objects.get(pk=ids.parse(Host.prefix, self.kwargs["id"]))
        except (ValueError, Host.DoesNotExist) as error:
            raise Missing(f"There is no host “{self.kwargs['id'][:60]}”.") from error

    @extend_schema(request=InvitationInput, responses={201: InvitationSerializer})
    @action(detail=False, methods=["post"], url_path="invitations")
    def invite(self, request: Request, workspace: str) -> Response:
        """Let another machine join as a host of this name, once, within an hour; only by staff."""
        require_staff(request.user, "A host")
        invited = invite_host(self.body(InvitationInput)["name"], self.actor)
        return Response(InvitationSerializer(invited).data, status=201)

    @extend_schema(request=HostInput)
    def partial_update(self, request: Request, workspace: str, id: str) -> Response:
        """Have it start nothing new, or start again; only by staff, since all workspaces use it."""
        require_staff(request.user, "A host")
        draining = self.body(HostInput)["draining"]
        return self.answer(services.set_draining(self.get_object(), self.actor, draining, self.workspace))

    @extend_schema(request=None, responses=HostSerializer)
    @action(detail=True, methods=["post"], url_path="declare-dead")
    def declare_dead(self, request: Request, workspace: str, id: str) -> Response:
        """Say that a lost host never comes back; only by staff. What it held is free, and its work goes elsewhere.

        Were it alive after all, that work would run twice.
        """
        require_staff(request.user, "A host")
        return self.answer(services.declare_dead(self.get_object(), self.actor, self.workspace))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, workspace: str, id: str) -> Response:
        """Forget a dead host; only by staff. Its name is free again."""
        require_staff(request.user, "A host")
        services.forget_host(self.get_object(), self.actor, self.workspace)
        return Response(status=204)
