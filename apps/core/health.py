"""What the control plane's parts say of themselves, for the health page and the overview. Each look is short."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import redis
from django.conf import settings
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from apps.clusters.models import Host
from apps.core.figures import ago
from apps.core.page import Pill
from apps.deployments.models import Gateway

PING_SECONDS = 0.5
LATE = timedelta(seconds=45)


@dataclass(frozen=True)
class Service:
    """A part, whether it is well, and what is known of it."""

    name: str
    well: bool
    words: str

    @property
    def pill(self) -> Pill:
        return Pill("ok", "Answering") if self.well else Pill("warn", "Not answering")


@dataclass(frozen=True)
class Job:
    """A scheduled job: how often, when last, and whether it is switched on."""

    name: str
    every: str
    last: datetime | None
    enabled: bool


def services(hosts: list[Host]) -> list[Service]:
    """The page itself proves the web server and Postgres."""
    return [
        Service("Web", True, "this page"),
        Service("Postgres", True, "this page was read from it"),
        _broker(),
        _worker(hosts),
        _scheduler(),
        *_gateways(),
    ]


def _broker() -> Service:
    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://")
    try:
        client = redis.Redis.from_url(url, socket_timeout=PING_SECONDS, socket_connect_timeout=PING_SECONDS)
        client.ping()
        client.close()
    except (redis.RedisError, OSError, ValueError):
        return Service("Valkey", False, "Work goes on by sweeps every 2 s; only hints are lost.")
    return Service("Valkey", True, "it answers")


def _worker(hosts: list[Host]) -> Service:
    seen = [host.heartbeat_at for host in hosts if host.heartbeat_at]
    newest = max(seen, default=None)
    well = newest is not None and newest > timezone.now() - LATE
    words = f"last heartbeat {ago(newest)}" if newest else "no worker has joined yet"
    return Service("Worker", well, words if well or newest is None else f"{words}; nothing new is started meanwhile")


def _scheduler() -> Service:
    newest = PeriodicTask.objects.exclude(last_run_at=None).order_by("-last_run_at").first()
    if newest is None or newest.last_run_at is None:
        return Service("Scheduler", False, "no scheduled job has run yet")
    well = newest.last_run_at > timezone.now() - timedelta(minutes=3)
    return Service("Scheduler", well, f"last job {ago(newest.last_run_at)}")


def _gateways() -> list[Service]:
    return [
        Service("Gateway", row.phase == "rendering" and row.reason != "GatewayUnreachable", row.message)
        for row in Gateway.objects.order_by("name")
    ]


def jobs() -> list[Job]:
    found = PeriodicTask.objects.filter(interval__isnull=False).select_related("interval").order_by("name")
    return [Job(row.name, str(row.interval), row.last_run_at, row.enabled) for row in found]
