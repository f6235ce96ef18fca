"""Deployments, their revisions, and what was asked of them."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from apps.core.models import Managed, Typed, managed_constraint, managed_index
from apps.deployments.phases import DEPLOYMENT_PHASES, GATEWAY_PHASES
from apps.exports.models import Export


class Deployment(Managed):
    """A stable URL with a model behind it.

    Wanted: `revision`, `replicas`, `cpus`, `memory_bytes`, `spread`: the places that it stands on, each with its number
    of replicas and its share of the requests, [{"place": "plx_...", "replicas": 1, "weight": 50}]; empty: `replicas`
    on one place, wherever there is room. `serving_revision` is the one that the gateway has.
    `listing` says which replicas the gateway may send to: [{"placement": id, "revision": n, "weight": 100,
    "ordinals": [0, 1]}]; `listing_version` rises with each change, and the gateway reports which one it applied.
    """

    kind = "deployment"
    prefix = "dep"
    title = "deployment"
    phases = DEPLOYMENT_PHASES
    restartable = True
    spec_fields = ("revision", "replicas", "cpus", "memory_bytes", "spread")

    name = models.SlugField(max_length=63)
    revision = models.PositiveIntegerField(default=1)
    replicas = models.PositiveSmallIntegerField(default=1)
    cpus = models.FloatField(default=0.25)
    memory_bytes = models.PositiveBigIntegerField(default=512 * 1024**2)
    spread = models.JSONField(default=list)
    serving_revision = models.PositiveIntegerField(null=True, blank=True)
    ready_replicas = models.PositiveSmallIntegerField(default=0)
    listing = models.JSONField(default=list)
    listing_version = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            managed_constraint("deployment", DEPLOYMENT_PHASES),
            models.UniqueConstraint(
                fields=["workspace", "name"], condition=~models.Q(phase="deleted"), name="deployment_name"
            ),
        ]
        indexes = [
            managed_index("deployment"),
            models.Index(fields=["workspace", "-id"], name="deployment_list"),
        ]

    @property
    def label(self) -> str:
        return self.name


class Revision(Typed):
    """Immutable: an export as it is served."""

    prefix = "rev"

    deployment = models.ForeignKey(Deployment, models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    export = models.ForeignKey(Export, models.PROTECT, related_name="revisions")
    note = models.CharField(max_length=200, default="", blank=True)
    created_by = models.CharField(max_length=120, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["deployment", "number"], name="revision_number")]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"r{self.number}"


class UsageWindow(models.Model):
    """What one replica answered in one window; each request is counted once. Rolled up into hours."""

    deployment = models.ForeignKey(Deployment, models.CASCADE, related_name="usage")
    revision = models.PositiveIntegerField()
    replica = models.CharField(max_length=40, default="", blank=True)
    starts_at = models.DateTimeField()
    seconds = models.PositiveIntegerField()
    requests = models.PositiveBigIntegerField()
    errors = models.PositiveBigIntegerField()
    statuses = models.JSONField(default=dict)
    keys = models.JSONField(default=dict)
    latency_ms = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(fields=["deployment", "starts_at"], name="usage_deployment"),
            models.Index(fields=["seconds", "starts_at"], name="usage_roll_up"),
        ]

    def __str__(self) -> str:
        return f"{self.requests} requests from {self.starts_at}"


class Gateway(Managed):
    """One Envoy, whose whole configuration is rendered from the rows. Belongs to the installation.

    `applied`: the `listing_version` of each deployment (by id) that Envoy is known to route by.
    """

    kind = "gateway"
    prefix = "gwy"
    title = "gateway"
    phases = GATEWAY_PHASES
    lock_rank = 4

    workspace = models.ForeignKey("accounts.Workspace", models.PROTECT, null=True, blank=True, related_name="+")
    name = models.CharField(max_length=80, unique=True)
    host = models.ForeignKey("clusters.Host", models.PROTECT, related_name="gateways")
    applied = models.JSONField(default=dict)

    class Meta:
        constraints = [managed_constraint("gateway", GATEWAY_PHASES)]
        indexes = [managed_index("gateway")]


class UsageCursor(models.Model):
    """How far a replica's usage stream was read, so that no request is counted twice.

    `pushed`: how many bytes of it a replica far away has sent, as far as it sends them itself.
    """

    placement_id = models.UUIDField()
    stream = models.CharField(max_length=24)
    offset = models.PositiveBigIntegerField(default=0)
    pushed = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["placement_id", "stream"], name="usage_cursor")]

    def __str__(self) -> str:
        return f"{self.stream} at {self.offset}"
