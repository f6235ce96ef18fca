"""Hosts: machines whose own Celery worker runs workloads. Clusters: Kubernetes, bought or brought; and their ledger."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from apps.clouds.models import CloudAccount
from apps.clusters.phases import CLUSTER_PHASES
from apps.core.models import Managed, Typed, managed_constraint, managed_index


class Host(Typed):
    """`queue` is "host:<id>"; `lost_at` is set when no heartbeat came for a minute, and cleared when one does.

    `declared_dead_at`: an administrator said that it never comes back, so what ran there is taken for gone.
    `certificate_sha256`: of the public key in the client certificate that a host elsewhere joins with, so that it stays
    when that is renewed; "" for one beside the database.
    `isolation`: in a sentence, how user code is kept apart there; `caged`: whether uploaded scripts may run.
    """

    prefix = "hst"

    name = models.CharField(max_length=100, unique=True)
    address = models.CharField(max_length=100, default="127.0.0.1")
    cpus = models.FloatField()
    memory_bytes = models.PositiveBigIntegerField()
    gpus = models.PositiveSmallIntegerField(default=0)
    draining = models.BooleanField(default=False)
    caged = models.BooleanField(default=False)
    isolation = models.TextField(default="", blank=True)
    disk_free_bytes = models.PositiveBigIntegerField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    swept_at = models.DateTimeField(null=True, blank=True)
    lost_at = models.DateTimeField(null=True, blank=True)
    declared_dead_at = models.DateTimeField(null=True, blank=True)
    certificate_sha256 = models.CharField(max_length=64, default="", blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        return f"host:{self.id}"


class HostInvitation(Typed):
    """The right to join one host, once, within its time. Only the SHA-256 of its secret is kept."""

    prefix = "inv"

    name = models.CharField(max_length=100)
    secret_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    host = models.ForeignKey(Host, models.SET_NULL, null=True, blank=True, related_name="invitations")
    created_by = models.CharField(max_length=120, default="", blank=True)

    def __str__(self) -> str:
        return self.name


class Authority(Typed):
    """A certificate authority of this installation, by name. Its key is sealed and opened where it signs."""

    prefix = "aut"

    name = models.CharField(max_length=63, unique=True)
    certificate = models.TextField()
    sealed_key = models.TextField(editable=False)

    class Meta:
        verbose_name_plural = "authorities"

    def __str__(self) -> str:
        return self.name


class Cluster(Managed):
    """A Kubernetes: machines bought from a cloud account, or one that was there, known by its kubeconfig.

    `provider` is that of the account, or "kubeconfig". Wanted of a bought one: `machine_type`, `machines`, `disk_gib`,
    `network` ({"cidr"} for one of its own, or {"vpc_id"} for one that is there), `allowed_cidrs` (who may reach its
    API and its replicas), `approved`. `plan`: what will be made, in order, [{"key", "kind", "what",
    "price_usd_per_hour"}]. `kubeconfig` (sealed YAML) of one that was brought; `credentials` (sealed JSON:
    certificate authority, join token) of one that we made. `access`: what is no secret of how to reach it ({"server"}).
    `reach`: where the gateway finds its replicas, "pods" (their own addresses) or "nodes" (a port of the machine).
    """

    kind = "cluster"
    prefix = "cls"
    title = "cluster"
    phases = CLUSTER_PHASES
    lock_rank = 0
    spec_fields = ("approved", "kubeconfig")

    name = models.SlugField(max_length=63)
    provider = models.CharField(max_length=20)
    account = models.ForeignKey(CloudAccount, models.PROTECT, null=True, blank=True, related_name="clusters")
    region = models.CharField(max_length=40, default="", blank=True)
    machine_type = models.CharField(max_length=40, default="", blank=True)
    machines = models.PositiveSmallIntegerField(default=1)
    disk_gib = models.PositiveIntegerField(default=40)
    network = models.JSONField(default=dict)
    allowed_cidrs = models.JSONField(default=list)
    approved = models.BooleanField(default=False)
    plan = models.JSONField(default=list)
    price_usd_per_hour = models.FloatField(default=0.0)
    namespace = models.CharField(max_length=63, default="windlass")
    reach = models.CharField(max_length=8, default="pods", choices=[("pods", "Pods"), ("nodes", "Nodes")])
    kubeconfig = models.TextField(default="", blank=True, editable=False)
    credentials = models.TextField(default="", blank=True, editable=False)
    access = models.JSONField(default=dict)
    attempt = models.PositiveIntegerField(default=1)
    ready_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            managed_constraint("cluster", CLUSTER_PHASES),
            models.UniqueConstraint(
                fields=["workspace", "name"], condition=~models.Q(phase="deleted"), name="cluster_name"
            ),
        ]
        indexes = [managed_index("cluster"), models.Index(fields=["workspace", "-id"], name="cluster_list")]

    @property
    def label(self) -> str:
        return self.name


class CloudResource(models.Model):
    """A cluster's resource in its cloud, and its line in the cost ledger. Never removed before the cloud confirmed it.

    `key` is its name in the graph ("machine-0"), `name` what the cloud shows, `token` the idempotency token of its
    create call and a tag on it. `state`: the intent is committed (`intent`), the cloud has it (`live`), it is being
    removed (`deleting`), the cloud confirmed that it is not there (`gone`). `seen` is what the last change of what the
    cloud says of it was; `mutated_at`, when the last call that changed it was answered or given up: a look begun before
    that says nothing of it. `misses`: complete looks in a row that did not see it.
    """

    class State(models.TextChoices):
        INTENT = "intent", "Intended"
        LIVE = "live", "Live"
        DELETING = "deleting", "Being removed"
        GONE = "gone", "Gone"

    cluster = models.ForeignKey(Cluster, models.PROTECT, related_name="resources")
    account = models.ForeignKey(CloudAccount, models.PROTECT, related_name="resources")
    region = models.CharField(max_length=40)
    kind = models.CharField(max_length=40)
    key = models.CharField(max_length=80)
    attempt = models.PositiveIntegerField(default=1)
    name = models.CharField(max_length=128)
    token = models.CharField(max_length=64, unique=True)
    cloud_id = models.CharField(max_length=256, default="", blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.INTENT)
    price_usd_per_hour = models.FloatField(default=0.0)
    seen = models.JSONField(default=dict)
    intended_at = models.DateTimeField(db_default=Now())
    mutated_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    misses = models.PositiveIntegerField(default=0)
    gone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["cluster", "key", "attempt"], name="cloud_resource_attempt")]
        indexes = [models.Index(fields=["account", "region", "kind", "state"], name="cloud_resource_sight")]

    def __str__(self) -> str:
        return f"{self.key} ({self.state})"
