"""Placements and their logs; places and what is reserved of them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import models
from django.db.models.functions import Now

from apps.core import ids
from apps.core.models import Managed, managed_constraint, managed_index
from apps.placements.observation import Observed
from apps.placements.phases import PLACE_PHASES, PLACEMENT_PHASES
from apps.placements.workload import Resources, Workload
from apps.registry.models import Blob


class Place(Managed):
    """Where workloads can stand: a host or a cluster. Observes all its placements in one call, wakes what changed.

    `capacity`: of a cluster, what its machines have in all, {"cpus", "memory_bytes", "gpus"}; a host's stands in its
    own row. `gone_at`: it will never answer again (its cluster was taken back, its host declared dead), so that
    whatever stood there is gone. `former_name`: of its host, once that was forgotten; what stood there tells of it
    still. `resource_version`: of the last list of a Kubernetes.
    """

    kind = "place"
    prefix = "plx"
    title = "place"
    phases = PLACE_PHASES
    lock_rank = 3

    workspace = models.ForeignKey("accounts.Workspace", models.PROTECT, null=True, blank=True, related_name="+")
    target = models.CharField(max_length=20, default="process")
    host = models.OneToOneField("clusters.Host", models.PROTECT, null=True, blank=True, related_name="place")
    cluster = models.OneToOneField("clusters.Cluster", models.PROTECT, null=True, blank=True, related_name="place")
    capacity = models.JSONField(default=dict)
    resource_version = models.CharField(max_length=40, default="", blank=True)
    gone_at = models.DateTimeField(null=True, blank=True)
    former_name = models.CharField(max_length=100, default="", blank=True)

    class Meta:
        constraints = [managed_constraint("place", PLACE_PHASES)]
        indexes = [managed_index("place")]

    @property
    def name(self) -> str:
        owner = self.host or self.cluster
        return owner.name if owner else self.former_name or self.typed_id

    @property
    def lost_at(self) -> datetime | None:
        """Since when nobody there answers. A cluster whose API is away may well go on serving: it is not lost."""
        return self.host.lost_at if self.host else None

    @property
    def total(self) -> Resources:
        """What it has in all."""
        if self.host:
            return Resources(self.host.cpus, self.host.memory_bytes, self.host.gpus)
        has = {"cpus": 0.0, "memory_bytes": 0, "gpus": 0} | self.capacity
        return Resources(has["cpus"], has["memory_bytes"], has["gpus"])


class Placement(Managed):
    """One workload, one attempt, one place.

    `owner_kind`, `owner_id`: whose it is; `slot`: "node-0" of a job, "r<revision>/<place>" of a service.
    `observed` is the place's last sight of it, begun at `observed_at`; it counts only if that is later than
    `mutated_at`, when the target last answered a change. `ended` is the observation of its exit, kept when the
    target has forgotten it. `log_offsets`: bytes stored, by stream; `logs_read_at`: when a target that can't tell
    their sizes was last asked for more. `grants_end_at`: when the addresses that its inputs and outputs move by end,
    if they do; they are renewed well before.
    """

    kind = "placement"
    prefix = "plc"
    title = "placement"
    phases = PLACEMENT_PHASES
    lock_rank = 2
    spec_fields = ("workload",)

    owner_kind = models.CharField(max_length=32)
    owner_id = models.UUIDField()
    slot = models.CharField(max_length=80)
    attempt = models.PositiveIntegerField(default=1)
    place = models.ForeignKey(Place, models.PROTECT, related_name="placements")
    workload = models.JSONField()
    observed = models.JSONField(default=dict)
    observed_at = models.DateTimeField(null=True, blank=True)
    mutated_at = models.DateTimeField(null=True, blank=True)
    applied_generation = models.PositiveBigIntegerField(default=0)
    log_offsets = models.JSONField(default=dict)
    ended = models.JSONField(default=dict)
    ready_ordinals = models.JSONField(default=list)
    stop_asked_at = models.DateTimeField(null=True, blank=True)
    clear_asked_at = models.DateTimeField(null=True, blank=True)
    logs_read_at = models.DateTimeField(null=True, blank=True)
    grants_end_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            managed_constraint("placement", PLACEMENT_PHASES),
            models.UniqueConstraint(fields=["owner_id", "slot", "attempt"], name="placement_attempt"),
        ]
        indexes = [
            managed_index("placement"),
            models.Index(fields=["owner_id"], name="placement_owner"),
            models.Index(fields=["place", "phase"], name="placement_place"),
        ]

    @property
    def outside_name(self) -> str:
        """What targets know it by; unique for ever."""
        return self.outside_name_of(self.id)

    @classmethod
    def outside_name_of(cls, row_id: UUID) -> str:
        return f"{cls.prefix}-{ids.suffix(row_id)}"

    @property
    def wanted(self) -> Workload:
        return Workload.from_json(self.workload)

    @property
    def seen(self) -> Observed | None:
        """The last observation, if it began after the last change was answered. A place that is gone keeps nothing."""
        if self.place.gone_at:
            return Observed("gone")
        if not self.observed or not self.observed_at:
            return None
        if self.mutated_at and self.observed_at <= self.mutated_at:
            return None
        return Observed.from_json(self.observed)


class PlacementBlob(models.Model):
    """Keeps a blob that a placement reads or writes from being collected."""

    class Way(models.TextChoices):
        IN = "in", "In"
        OUT = "out", "Out"

    placement = models.ForeignKey(Placement, models.CASCADE, related_name="blobs")
    way = models.CharField(max_length=3, choices=Way.choices)
    name = models.CharField(max_length=100)
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["placement", "way", "name"], name="placement_blob")]

    def __str__(self) -> str:
        return f"{self.way}/{self.name}"


class Reservation(models.Model):
    """What a placement holds of a place, from before it is started until it is sure to be gone."""

    placement = models.OneToOneField(Placement, models.CASCADE, related_name="reservation")
    place = models.ForeignKey(Place, models.PROTECT, related_name="reservations")
    cpus = models.FloatField()
    memory_bytes = models.PositiveBigIntegerField()
    gpus = models.PositiveSmallIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.cpus} cpus, {self.memory_bytes} bytes"


class LogChunk(models.Model):
    """Bytes of a placement's stream, from `offset`."""

    placement = models.ForeignKey(Placement, models.CASCADE, related_name="logs")
    stream = models.CharField(max_length=24)
    offset = models.PositiveBigIntegerField()
    data = models.BinaryField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["placement", "stream", "offset"], name="log_chunk")]
        indexes = [models.Index(fields=["at"], name="log_at")]

    def __str__(self) -> str:
        return f"{self.stream} from {self.offset}"
