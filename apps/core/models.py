"""The spine's rows: `Managed` (something wanted, that a reconciler makes so) and `Event` (what became of it)."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.core import ids
from apps.core.phases import CLEANING, Phase, Phases

RESYNC_SECONDS = 600
QUARANTINE_STRIKES = 10


class Goal(models.TextChoices):
    RUN = "run", "Run"
    STOP = "stop", "Stop"
    DELETE = "delete", "Delete"


class Managed(models.Model):
    """What somebody wants, and how far it is. Wants are written by `wants.want`, all the rest by `workers.engine`.

    `generation` counts changes of the spec and the goal, `version` every UPDATE; an ETag is "generation.version".
    `reason` is a CamelCase code, `message` says what goes on and what the user can do. `ending` is how the row will
    end while it passes through `cleaning`. `strikes` are failures in a row, counted when a lease is taken, so that
    a SIGKILL counts too; `retries` are waits in a row that a step asked for. All times are the database's.
    """

    kind: ClassVar[str]
    prefix: ClassVar[str]
    title: ClassVar[str]
    phases: ClassVar[Phases]
    spec_fields: ClassVar[tuple[str, ...]] = ()
    lock_rank: ClassVar[int] = 1
    restartable: ClassVar[bool] = False

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace: models.ForeignKey[Any, Any] = models.ForeignKey("accounts.Workspace", models.PROTECT, related_name="+")
    queue = models.CharField(max_length=80, default="reconcile")
    goal = models.CharField(max_length=8, choices=Goal.choices, default=Goal.RUN)
    generation = models.PositiveBigIntegerField(default=1)
    observed_generation = models.PositiveBigIntegerField(default=0)
    version = models.PositiveBigIntegerField(default=1)
    phase = models.CharField(max_length=32)
    reason = models.CharField(max_length=64, default="", blank=True)
    message = models.TextField(default="", blank=True)
    phase_since = models.DateTimeField(db_default=Now())
    progress = models.FloatField(null=True, blank=True)
    ending = models.CharField(max_length=16, default="", blank=True)
    wakes = models.PositiveBigIntegerField(default=0)
    strikes = models.PositiveIntegerField(default=0)
    retries = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True, db_default=Now())
    hinted_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=120, default="", blank=True)

    class Meta:
        abstract = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.phase:
            self.phase = self.phases.initial

    def __str__(self) -> str:
        return self.typed_id

    @property
    def typed_id(self) -> str:
        return ids.typed(self.prefix, self.id)

    @property
    def etag(self) -> str:
        return f'"{self.generation}.{self.version}"'

    @property
    def current_phase(self) -> Phase:
        return self.phases[self.phase]

    @property
    def is_final(self) -> bool:
        return self.current_phase.final

    @property
    def is_ending(self) -> bool:
        return self.phase == CLEANING

    @property
    def quarantined(self) -> bool:
        return self.strikes >= QUARANTINE_STRIKES


def managed_constraint(kind: str, phases: Phases) -> models.BaseConstraint:
    """What is not at its end is due some time, so that no row can be forgotten. For the Meta of every managed kind."""
    return models.CheckConstraint(
        condition=models.Q(due_at__isnull=False) | models.Q(phase__in=sorted(phases.final)),
        name=f"{kind}_due_unless_final",
    )


def managed_index(kind: str) -> models.Index:
    return models.Index(fields=["queue", "due_at"], name=f"{kind}_due")


class Typed(models.Model):
    """A plain row with a typed id."""

    prefix: ClassVar[str]

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        abstract = True

    @property
    def typed_id(self) -> str:
        return ids.typed(self.prefix, self.id)


class Event(models.Model):
    """Append-only: written in the same transaction as the change that it tells of."""

    workspace = models.ForeignKey("accounts.Workspace", models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=32)
    row_id = models.UUIDField()
    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=120)
    actor_name = models.CharField(max_length=200)
    request_id = models.CharField(max_length=64, default="", blank=True)
    old = models.CharField(max_length=32, default="", blank=True)
    new = models.CharField(max_length=32, default="", blank=True)
    reason = models.CharField(max_length=64, default="", blank=True)
    message = models.TextField(default="", blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["workspace", "-id"], name="event_workspace"),
            models.Index(fields=["kind", "row_id", "-id"], name="event_row"),
            models.Index(fields=["at"], name="event_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.old} -> {self.new}: {self.reason}"


class IdempotencyRecord(models.Model):
    """The answer to a POST that carried an Idempotency-Key; kept for 24 hours.

    `status` 0: the first request is still at work.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    owner = models.CharField(max_length=120)
    key = models.CharField(max_length=200)
    route = models.CharField(max_length=400)
    body_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    response = models.JSONField(null=True)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "route", "key"], name="idempotency_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_created")]

    def __str__(self) -> str:
        return f"{self.route} {self.key}"


class Installation(models.Model):
    """The one row that says which installation this is, for the tags of what it makes elsewhere."""

    name = models.CharField(max_length=26, unique=True)

    def __str__(self) -> str:
        return self.name
