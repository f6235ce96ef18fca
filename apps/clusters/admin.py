"""Hosts, clusters and what was bought for them, in the console."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from unfold.decorators import display

from apps.clusters.ledger import cost_usd
from apps.clusters.models import Authority, CloudResource, Cluster, Host, HostInvitation
from apps.clusters.services import approve_cluster, check_cluster_unused, declare_dead, set_draining, stop_cluster
from apps.core.actor import Actor
from apps.core.admin.base import ConsoleAdmin, LargeTableAdmin, Operation, stamp
from apps.core.admin.managed import ManagedAdmin
from apps.core.admin.operations import delete
from apps.core.figures import ago, file_size, memory, money, rate


def drain(host: Host, actor: Actor) -> None:
    with transaction.atomic():
        set_draining(host, actor, True)


def undrain(host: Host, actor: Actor) -> None:
    with transaction.atomic():
        set_draining(host, actor, False)


@admin.register(Host)
class HostAdmin(ConsoleAdmin):
    operations = (
        Operation(
            "drain",
            "Drain",
            "It starts nothing new; what runs there goes on to its end.",
            drain,
            icon="water_drop",
        ),
        Operation("undrain", "Take work again", "New work may be placed there again.", undrain, icon="play_arrow"),
        Operation(
            "declare_dead",
            "Declare dead",
            "Only for a lost host that never comes back, such as a machine that burnt: what stood there is taken for "
            "gone, what it held is free, and its work goes on elsewhere. Were it alive after all, that work would run "
            "twice.",
            declare_dead,
            icon="skull",
            danger=True,
        ),
    )
    list_display = (
        "short_id",
        "name",
        "cpus",
        "memory",
        "gpus",
        "disk_free",
        "heartbeat",
        "sweep",
        "draining",
        "lost_at",
        "declared_dead_at",
    )
    search_fields = ("name",)

    @display(description="memory", ordering="memory_bytes")
    def memory(self, host: Host) -> str:
        return memory(host.memory_bytes)

    @display(description="disk free", ordering="disk_free_bytes")
    def disk_free(self, host: Host) -> str:
        return file_size(host.disk_free_bytes)

    @display(description="heartbeat", ordering="heartbeat_at")
    def heartbeat(self, host: Host) -> str:
        return ago(host.heartbeat_at)

    @display(description="sweep", ordering="swept_at")
    def sweep(self, host: Host) -> str:
        return ago(host.swept_at)


@admin.register(HostInvitation)
class HostInvitationAdmin(ConsoleAdmin):
    """Only the digest of its secret is kept, and that is not shown either."""

    hidden = ("secret_sha256",)
    list_display = (
        "short_id",
        "name",
        stamp("created_at"),
        stamp("expires_at"),
        stamp("used_at"),
        "host",
        "created_by",
    )
    list_select_related = ("host",)
    search_ids = {"hst": "host"}
    search_fields = ("name",)
    ordering = ("-pk",)


@admin.register(Authority)
class AuthorityAdmin(ConsoleAdmin):
    """Its certificate is public; its key is opened only where it signs."""

    hidden = ("sealed_key",)
    list_display = ("short_id", "name", stamp("created_at"))
    search_fields = ("name",)


def stop(cluster: Cluster, actor: Actor) -> None:
    stop_cluster(cluster, actor)


@admin.register(Cluster)
class ClusterAdmin(ManagedAdmin):
    """Its kubeconfig and its credentials are no more shown than opened."""

    more = (
        Operation(
            "approve",
            "Approve",
            "What its plan says is bought, and costs its price an hour from then on.",
            approve_cluster,
            icon="shopping_cart",
        ),
        Operation(
            "cancel",
            "Stop",
            "All that was bought for it is taken back; its rows stay, with what it has cost. It does not start again.",
            stop,
            icon="stop_circle",
            danger=True,
        ),
        delete(check_cluster_unused),
    )
    hidden = (*ManagedAdmin.hidden, "kubeconfig", "credentials")
    extra_filters = ("provider",)
    search_ids = {"acc": "account"}


@admin.register(CloudResource)
class CloudResourceAdmin(LargeTableAdmin):
    """A line of the cost ledger; it stays when the resource is gone."""

    list_display = (stamp("intended_at"), "cluster", "key", "kind", "cloud_id", "state", "price", "cost", "misses")
    list_select_related = ("cluster",)
    search_ids = {"cls": "cluster", "acc": "account"}
    search_fields = ("cluster",)
    search_help_text = "The whole id of a cluster (cls_…) or of its account (acc_…)."

    @display(description="price")
    def price(self, resource: CloudResource) -> str:
        return rate(resource.price_usd_per_hour)

    @display(description="cost so far")
    def cost(self, resource: CloudResource) -> str:
        return money(cost_usd(resource))
