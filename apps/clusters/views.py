"""The hosts page: where workloads can stand, hosts and clusters, what is held there, and whether they answer."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from apps.accounts.auth import is_staff, require_staff
from apps.accounts.models import Role
from apps.clusters.models import Host
from apps.clusters.services import set_draining
from apps.core import figures, ids
from apps.core.context import QUIET_HOST
from apps.core.errors import Missing
from apps.core.page import Action, EmptyState, LoadLine, Page, Pill
from apps.core.pages import rows
from apps.core.pages.base import Posted, WorkspacePage
from apps.placements.models import Placement, Reservation
from apps.placements.places import places_of, with_held


class HostsPage(WorkspacePage):
    section = "hosts"
    writes = Role.ADMIN.value


class Hosts(HostsPage):
    """How much room is there, and does every host report?"""

    def get(self, request: HttpRequest) -> HttpResponse:
        hosts = list(Host.objects.order_by("name")[:200])
        held: dict[Any, Any] = {
            row["place__host"]: row
            for row in Reservation.objects.values("place__host").annotate(
                cpus=Sum("cpus"), memory=Sum("memory_bytes"), number=Count("pk")
            )
        }
        late = timezone.now() - QUIET_HOST
        lines = [self.line(host, held.get(host.pk), late) for host in hosts]
        return self.page(
            "clusters/hosts.html",
            Page("Hosts", "Hosts and clusters that run what you start. A draining host starts nothing new."),
            lines=lines,
            clusters=self.clusters(),
            running=Placement.objects.filter(
                ~Q(phase__in=sorted(Placement.phases.final)), workspace=self.workspace
            ).count(),
            empty=EmptyState("No host has joined yet", "A worker that starts with make up joins by itself."),
        )

    def clusters(self) -> list[dict[str, Any]]:
        """Those of this workspace that have joined."""
        mine = places_of(self.workspace).filter(cluster__isnull=False).select_related("cluster__account")
        counted = Count("reservations", distinct=True)
        return [self.cluster_line(place) for place in with_held(mine).annotate(number=counted).order_by("pk")[:200]]

    def cluster_line(self, place: Any) -> dict[str, Any]:
        cluster, total = place.cluster, place.total
        of_cpus = f"{figures.number(round(place.held_cpus, 2))} of {figures.number(total.cpus)} held"
        of_memory = f"{figures.memory(place.held_memory_bytes)} of {figures.memory(total.memory_bytes)} held"
        machines = f"{figures.count(cluster.machines, 'machine')} of {cluster.machine_type} in {cluster.region}"
        price = figures.rate(cluster.price_usd_per_hour)
        return {
            "cluster": cluster,
            "pill": rows.pill(place) if place.phase == "unreachable" else rows.pill(cluster),
            "cpus": LoadLine(place.held_cpus, total.cpus, of_cpus, "Processors", warn_from=1.0),
            "memory": LoadLine(place.held_memory_bytes, total.memory_bytes, of_memory, "Memory", warn_from=1.0),
            "workloads": figures.count(place.number, "workload") if place.number else "no workloads",
            "what": f"{machines}, {price}" if cluster.account else "a Kubernetes that was there",
            "gpus": total.gpus,
            "message": (place if place.phase == "unreachable" else cluster).message,
        }

    def line(self, host: Host, held: dict[str, Any] | None, late: Any) -> dict[str, Any]:
        cpus, memory = (held["cpus"], held["memory"]) if held else (0.0, 0)
        if host.declared_dead_at:
            pill = Pill("off", "Declared dead")
        elif host.lost_at:
            pill = Pill("bad", "Lost")
        elif host.heartbeat_at is None or host.heartbeat_at < late:
            pill = Pill("warn", "Not reporting")
        elif host.draining:
            pill = Pill("wait", "Draining")
        else:
            pill = Pill("ok", "Ready")
        of_cpus = f"{figures.number(round(cpus, 2))} of {figures.number(host.cpus)} held"
        of_memory = f"{figures.memory(memory)} of {figures.memory(host.memory_bytes)} held"
        return {
            "host": host,
            "pill": pill,
            "cpus": LoadLine(cpus, host.cpus, of_cpus, "Processors", warn_from=1.0),
            "memory": LoadLine(memory, host.memory_bytes, of_memory, "Memory", warn_from=1.0),
            "disk": f"{figures.file_size(host.disk_free_bytes)} free" if host.disk_free_bytes else "not known yet",
            "workloads": figures.count(held["number"], "workload") if held else "no workloads",
            "action": self.action(host),
        }

    def action(self, host: Host) -> Action | None:
        if not self.may_write or not is_staff(self.request.user):
            return None
        words, busy = ("Take work again", "Starting") if host.draining else ("Drain", "Draining")
        values = (("draining", "" if host.draining else "1"),)
        return Action(words, f"{self.url('hosts', host.typed_id)}drain", method="post", values=values, busy=busy)


class DrainHost(Posted, HostsPage):
    def post(self, request: HttpRequest, host_id: str) -> HttpResponse:
        require_staff(request.user, "A host")
        try:
            host = Host.objects.filter(pk=ids.parse(Host.prefix, host_id)).first()
        except ValueError:
            host = None
        if host is None:
            raise Missing("There is no such host.")
        found, draining = host, bool(request.POST.get("draining"))

        def work() -> str:
            set_draining(found, self.actor, draining, self.workspace)
            return self.url("hosts")

        said = f"{found.name} starts nothing new." if draining else f"{found.name} takes work again."
        return self.act(work, said)

    def after_refusal(self) -> str:
        return self.url("hosts")
