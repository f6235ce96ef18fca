"""Pages of placements: which workload stands where, and how its attempt ended."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from apps.core import figures
from apps.core.errors import Missing
from apps.core.figures import number, short_id
from apps.core.page import Crumb, EmptyState, KeyValue, LogView, Page, Tab
from apps.core.pages import logs, rows
from apps.core.pages.base import WorkspacePage
from apps.core.pages.lists import listing
from apps.core.phases import DELETED
from apps.core.wants import models_by_kind
from apps.placements.models import Placement
from apps.placements.observation import Observed

FILTERS = {
    "phase": {
        "Waiting": ("pending",),
        "Running": ("starting", "running", "ready", "cleaning"),
        "Succeeded": ("succeeded",),
        "Failed": ("failed",),
        "Cancelled": ("cancelled",),
    }
}


class PlacementsPage(WorkspacePage):
    section = "placements"


def owner_names(placements: list[Placement]) -> dict[Any, str]:
    """One query a kind of owner."""
    found: dict[Any, str] = {}
    for kind in sorted({row.owner_kind for row in placements}):
        model: Any = models_by_kind().get(kind)
        if model is not None:
            keys = [row.owner_id for row in placements if row.owner_kind == kind]
            for owner in model._default_manager.select_related(*rows.NAMED_BY.get(kind, ())).filter(pk__in=keys):
                found[owner.pk] = rows.label(owner)
    return found


class Placements(PlacementsPage):
    """Which workload stands where?"""

    def get(self, request: HttpRequest) -> HttpResponse:
        placements = Placement.objects.filter(workspace=self.workspace).exclude(phase=DELETED)
        found = listing(request, placements.select_related("place__host", "place__cluster"), Placement.prefix, FILTERS)
        names = owner_names(found.rows)
        lines = [
            (
                row,
                rows.url(self.root, row),
                rows.pill(row),
                names.get(row.owner_id, row.owner_kind),
                rows.url_of(self.root, row.owner_kind, row.owner_id),
                resources(row),
            )
            for row in found.rows
        ]
        return self.page(
            "placements/list.html",
            Page("Placements", "Every attempt to have one workload on one host or cluster, the newest first."),
            listing=found,
            lines=lines,
            empty=EmptyState(
                "No placements yet",
                "A run, an export or a deployment makes one when it finds room on a host or a cluster.",
            ),
        )


def resources(row: Placement) -> str:
    content = row.workload.get("resources", {})
    copies = row.workload.get("replicas", 1)
    each = f"{number(content.get('cpus', 0))} processors, {figures.memory(content.get('memory_bytes', 0))}"
    return each if copies == 1 else f"{copies} × {each}"


class PlacementPage(PlacementsPage):
    """How did this attempt go?"""

    tabs = ("", "logs", "events")

    def get(self, request: HttpRequest, placement_id: str, tab: str = "") -> HttpResponse:
        if tab not in self.tabs:
            raise Missing("There is no such page of a placement.")
        row = self.row(Placement, placement_id, "place__host", "place__cluster")
        address = rows.url(self.root, row)
        events = rows.events_of(row)
        owner = owner_names([row]).get(row.owner_id, row.owner_kind)
        observed = Observed.from_json(row.observed) if row.observed else None
        ended = Observed.from_json(row.ended) if row.ended else observed
        page = Page(
            f"{owner}, {row.slot}",
            row.message or "Waiting for its place.",
            rows.pill(row),
            tags=[f"attempt {row.attempt}"],
            breadcrumbs=[Crumb("Placements", self.url("placements")), Crumb(short_id(row.typed_id))],
            tabs=[
                Tab("Overview", address, tab == ""),
                Tab("Logs", f"{address}logs/", tab == "logs"),
                Tab("Events", f"{address}events/", tab == "events", len(events)),
            ],
            live=rows.live(row),
        )
        return self.page(
            "placements/placement.html",
            page,
            tab=tab,
            live=rows.live(row),
            timeline=rows.timeline(row, events),
            copies=observed.ranks if observed else (),
            facts=self.facts(row, owner, ended),
            argv=" ".join(row.workload.get("argv", [])),
            log=LogView("log", f"{address}log", not row.is_final, f"{address}log?as=text", sources=streams(row)),
            events=rows.lines(self.root, events) if tab == "events" else [],
        )

    def facts(self, row: Placement, owner: str, ended: Observed | None) -> list[KeyValue]:
        found = [
            KeyValue("Id", short_id(row.typed_id), mono=True, copy=True, full=row.typed_id),
            KeyValue("Belongs to", owner, rows.url_of(self.root, row.owner_kind, row.owner_id)),
            KeyValue("Cluster" if row.place.cluster else "Host", row.place.name, self.place_url(row)),
            KeyValue("Target", row.place.target),
            KeyValue("Holds", resources(row)),
        ]
        exit_ = ended.exit if ended else None
        if exit_ is not None:
            how = f"signal {exit_.signal}" if exit_.signal else f"code {exit_.code}"
            found.append(KeyValue("Exit", f"{exit_.reason}, {how}"))
        return found

    def place_url(self, row: Placement) -> str:
        stands = row.place.host or row.place.cluster
        return f"{self.url('hosts')}#{stands.typed_id}" if stands else ""


def streams(row: Placement) -> list[str]:
    return [f"copy {name}" for name in sorted(row.log_offsets) if name.isdecimal()]


class PlacementLog(PlacementsPage):
    def get(self, request: HttpRequest, placement_id: str) -> HttpResponse:
        row = self.row(Placement, placement_id, "place__host", "place__cluster")
        return logs.answer(request, row, "copy", row.is_final)
