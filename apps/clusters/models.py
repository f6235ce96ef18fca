"""Hosts: machines whose own Celery worker runs workloads."""

from __future__ import annotations

from django.db import models

from apps.core.models import Typed


class Host(Typed):
    """`queue` is "host:<id>"; `lost_at` is set when no heartbeat came for a minute, and cleared when one does.

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

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def queue(self) -> str:
        return f"host:{self.id}"
