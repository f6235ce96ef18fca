"""Cloud accounts, what they offer at which price, and what was seen there."""

from __future__ import annotations

from django.db import models

from apps.clouds.phases import ACCOUNT_PHASES, SIGHT_PHASES
from apps.core.models import Managed, managed_constraint, managed_index


class CloudAccount(Managed):
    """The right to buy machines from one cloud service.

    `credentials` is a sealed JSON object that only workers open. `identity` is who the cloud says that they are.
    `findings`: what the last check found missing, [{"code", "message", "fix"}]. `throttled_until`: the cloud asked
    for patience; nothing of this account is called before, and no other account waits for it.
    """

    kind = "cloud_account"
    prefix = "acc"
    title = "cloud account"
    phases = ACCOUNT_PHASES
    lock_rank = 5
    spec_fields = ("credentials", "region")

    name = models.SlugField(max_length=63)
    provider = models.CharField(max_length=20)
    region = models.CharField(max_length=40)
    credentials = models.TextField(editable=False)
    identity = models.CharField(max_length=200, default="", blank=True)
    findings = models.JSONField(default=list)
    checked_at = models.DateTimeField(null=True, blank=True)
    throttled_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            managed_constraint("cloud_account", ACCOUNT_PHASES),
            models.UniqueConstraint(
                fields=["workspace", "name"], condition=~models.Q(phase="deleted"), name="cloud_account_name"
            ),
        ]
        indexes = [managed_index("cloud_account")]

    @property
    def label(self) -> str:
        return self.name


class CloudSight(Managed):
    """One kind of resource of one account in one region: looked at in one batched call for all clusters.

    `observed_at`: when the last complete look began. `calls`: how many looks there were, ever. `strays`: what carries
    our tags there and belongs to no row, with what it has cost since it was first seen. Belongs to the account's
    workspace.
    """

    kind = "cloud_sight"
    prefix = "sgt"
    title = "cloud sight"
    phases = SIGHT_PHASES
    lock_rank = 6

    account = models.ForeignKey(CloudAccount, models.PROTECT, related_name="sights")
    region = models.CharField(max_length=40)
    resource_kind = models.CharField(max_length=40)
    observed_at = models.DateTimeField(null=True, blank=True)
    calls = models.PositiveBigIntegerField(default=0)
    strays = models.JSONField(default=list)

    class Meta:
        constraints = [
            managed_constraint("cloud_sight", SIGHT_PHASES),
            models.UniqueConstraint(fields=["account", "region", "resource_kind"], name="cloud_sight_once"),
        ]
        indexes = [managed_index("cloud_sight")]

    @property
    def label(self) -> str:
        return f"{self.resource_kind} in {self.region}"


class Offer(models.Model):
    """A machine type in one region, with its price on a day. Belongs to the installation."""

    provider = models.CharField(max_length=20)
    region = models.CharField(max_length=40)
    machine_type = models.CharField(max_length=40)
    cpus = models.FloatField()
    memory_bytes = models.PositiveBigIntegerField()
    gpus = models.PositiveSmallIntegerField(default=0)
    price_usd_per_hour = models.FloatField()
    as_of = models.DateField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["provider", "region", "machine_type"], name="offer_once")]
        ordering = ["provider", "region", "price_usd_per_hour"]

    def __str__(self) -> str:
        return f"{self.machine_type} in {self.region}"
