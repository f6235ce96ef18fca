"""What a worker does beside its tasks: sweep its queues, keep its host's heartbeat, and notice changes on the host.

Threads of the worker's main process, which runs no step itself unless the broker is away. Each ends with the process.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import OperationalError, connections, transaction
from django.db.models.functions import Now

from apps.clusters.models import Host
from apps.core.wants import wake
from apps.deployments.models import Gateway
from apps.placements.models import Place
from apps.placements.services import reopen_place, wake_owners
from workers import engine, targets
from workers.crashpoints import point
from workers.door.admit import write_door
from workers.reconcilers import RECONCILERS

logger = logging.getLogger(__name__)
SWEEP_SECONDS = 2.0
HEARTBEAT_SECONDS = 10.0
WATCH_SECONDS = 0.1
DOOR_SECONDS = 1.0


def register_host() -> Host:
    """This machine's rows: the host, its place, and the gateway that it looks after. Says again what it can hold.

    A gateway that several workers share has a queue of its own, so that it goes on whichever of them is there.
    """
    from workers.targets.process import cage

    found = {
        "address": settings.WINDLASS_HOST_ADDRESS,
        "cpus": settings.WINDLASS_HOST_CPUS,
        "memory_bytes": settings.WINDLASS_HOST_MEMORY_BYTES,
        "caged": cage.caged(),
        "isolation": cage.describe(),
    }
    with transaction.atomic():
        lost = Host.objects.filter(pk=settings.WINDLASS_HOST_ID).exclude(lost_at=None).exists()
        host, _made = Host.objects.update_or_create(
            id=settings.WINDLASS_HOST_ID, defaults=found, create_defaults={"name": settings.WINDLASS_HOST_NAME, **found}
        )
        Host.objects.filter(pk=host.pk).update(heartbeat_at=Now())
        Place.objects.get_or_create(host=host, defaults={"target": "process", "queue": host.queue})
        if lost:
            come_back(host.pk)
        if queue := settings.WINDLASS_SHARED_GATEWAY_QUEUE:
            Gateway.objects.get_or_create(name=settings.WINDLASS_GATEWAY, defaults={"host": host, "queue": queue})
        elif settings.WINDLASS_GATEWAY != "none":
            Gateway.objects.get_or_create(name=f"{host.name} gateway", defaults={"host": host, "queue": host.queue})
    return host


def start(queues: list[str]) -> list[threading.Thread]:
    """Start the threads of a worker that consumes `queues`; a host's queue makes it that host's agent."""
    loops: list[tuple[str, Callable[[], None]]] = [
        (f"sweep {name}", lambda name=name: sweep_once(name))  # type: ignore[misc]
        for name in queues
    ]
    own = f"host:{settings.WINDLASS_HOST_ID}"
    if own in queues:
        _until_it_works(register_host)
        targets.this_host().recover()  # what a stop of the product paused goes on
        loops += [("heartbeat", heartbeat_once), ("watch", Watcher().once)]
        if settings.WINDLASS_DOOR:
            loops.append(("door", door_once))
    threads = [threading.Thread(target=_for_ever, args=loop, name=loop[0], daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    return threads


def _until_it_works(act: Callable[[], object]) -> None:
    while True:
        try:
            act()
            return
        except OperationalError as error:
            logger.warning("the database does not answer (%s); trying again", error)
            connections.close_all()
            time.sleep(1)


def _for_ever(name: str, act: Callable[[], None]) -> None:
    while True:
        try:
            act()
        except OperationalError as error:
            logger.warning("%s: the database does not answer (%s); trying again", name, error)
            connections.close_all()
            time.sleep(1)
        except Exception:
            logger.exception("%s failed; it goes on", name)
            connections.close_all()
            time.sleep(1)


def sweep_once(queue: str) -> None:
    engine.sweep(queue, lambda kind, row_id: engine.reconcile(kind, row_id, RECONCILERS))
    Host.objects.filter(pk=settings.WINDLASS_HOST_ID).update(swept_at=Now())
    time.sleep(engine.next_due_seconds(queue, SWEEP_SECONDS * min(1.0, settings.WINDLASS_TIME_SCALE)))


def heartbeat_once() -> None:
    """In a thread of its own, so that a worker which is always busy is not taken for dead."""
    stats = os.statvfs(settings.WINDLASS_VAR)
    own = Host.objects.filter(pk=settings.WINDLASS_HOST_ID)
    own.update(heartbeat_at=Now(), disk_free_bytes=stats.f_bavail * stats.f_frsize)
    if own.exclude(lost_at=None).exists():
        come_back(settings.WINDLASS_HOST_ID)
    time.sleep(HEARTBEAT_SECONDS)


def door_once() -> None:
    """Constant work: whoever joined may pass, whoever was forgotten may not any more."""
    write_door()
    time.sleep(DOOR_SECONDS)


def come_back(host_id: Any) -> None:
    """Others gave this host up: look at what stands here before it counts again, and tell whose it is.

    What was replaced meanwhile keeps its reservation until it is stopped, so nothing new is squeezed in beside it.
    """
    point("host.back.before")
    with transaction.atomic():
        Host.objects.filter(pk=host_id).update(lost_at=None, declared_dead_at=None)
        wake_owners([host_id])
        reopen_place(Place.objects.get(host_id=host_id))
    point("host.back.answered")


class Watcher:
    """Notices that a shim wrote its status, and has the place look at once instead of at its next beat."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def once(self) -> None:
        from workers.targets.process.target import snapshot

        now = snapshot(settings.WINDLASS_WORKLOADS_DIRECTORY)
        if now != self.seen:
            wake("place", list(Place.objects.filter(host_id=settings.WINDLASS_HOST_ID).values_list("pk", flat=True)))
            self.seen = now
        time.sleep(WATCH_SECONDS)
