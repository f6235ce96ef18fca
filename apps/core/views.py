"""The way in, the overview, events, health, and the live stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.db import DatabaseError, connection
from django.db.models import F, Q
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import render
from django.utils import timezone

from apps.accounts.auth import membership
from apps.accounts.models import Membership, User
from apps.clusters.models import Host
from apps.core import health, ids, live, overview
from apps.core.actor import WINDLASS
from apps.core.checks import whole
from apps.core.errors import Conflict, Missing
from apps.core.models import Event
from apps.core.page import Action, Page, Pill, bold
from apps.core.pages import rows
from apps.core.pages.base import LAST_WORKSPACE, Posted, WorkspacePage
from apps.core.pages.lists import PAGE_ROWS
from apps.core.phases import CLEANING
from apps.core.wants import models_by_kind
from apps.examples import services as examples
from apps.registry.samples import samples

LATEST = 8
SHOWN_DIGITS = 12
LIVE = "training_run:* export:* deployment:* dataset_version:* model_version:* example:*"


def home(request: HttpRequest) -> HttpResponseBase:
    """To the workspace of the last visit, or the first there is."""
    if not request.user.is_authenticated:
        return redirect_to_login("/")
    mine = Membership.objects.filter(user=request.user).select_related("workspace").order_by("workspace__name")
    slugs = [found.workspace.slug for found in mine]
    last = request.COOKIES.get(LAST_WORKSPACE, "")
    if not slugs:
        return render(request, "core/no_workspace.html", status=403)
    return HttpResponseRedirect(f"/w/{last if last in slugs else slugs[0]}/")


class Overview(WorkspacePage):
    """What needs me, what is running, what answers? Before the first run: the example."""

    def get(self, request: HttpRequest) -> HttpResponse:
        runs, example, data = overview.counts(self.workspace)
        hosts = list(Host.objects.order_by("name"))
        machine, facts = overview.machine(hosts)
        context: dict[str, Any] = {
            "machine": machine,
            "facts": facts,
            "live": LIVE,
            "stages": overview.stages(self.root, example, data, self.may_write),
            "example": example,
            "run_example": self.run_action(),
            "data": data,
        }
        if not runs:
            page = Page("Overview", live=LIVE)
            return self.page("core/first_run.html", page, digits=self.digits(data), **context)
        alone = example is not None and runs == 1
        needs = overview.needs(self.root, self.workspace)
        work = overview.in_progress(self.root, self.workspace)
        serving = overview.serving(self.root, self.workspace)
        told = ~Q(kind__in=["placement", "example"]) & ~Q(new=CLEANING) & ~Q(old=F("new"), actor=WINDLASS.id)
        events = Event.objects.filter(told, workspace=self.workspace)
        return self.page(
            "core/overview.html",
            Page(
                "Overview",
                bold(overview.example_lead(example) if alone else _lead(len(needs), len(work), serving)),
                actions=self.actions(),
                live=LIVE,
            ),
            strip=alone,
            needs=needs,
            work=work,
            serving=serving,
            events=rows.lines(self.root, events.order_by("-id")[:LATEST]),
            **context,
        )

    def run_action(self) -> Action:
        if not self.may_write:
            return Action("Run the example", icon="play", disabled="Your role is viewer; it needs developer.")
        return Action("Run the example", f"{self.root}example", "play", "primary", "post", busy="Starting")

    def actions(self) -> list[Action]:
        if not self.may_write:
            return []
        return [
            Action("New dataset", self.url("datasets", "new"), "upload"),
            Action("New training run", self.url("training", "new"), "plus", "primary"),
        ]

    def digits(self, data: Any) -> list[dict[str, Any]]:
        """A few real images; none while the dataset is not ready."""
        if data is None or data.prepared is None:
            return []
        try:
            found = samples(data, split="train", offset=0, limit=SHOWN_DIGITS)
        except (Conflict, Missing, OSError):
            return []
        return picture_items(found)


def picture_items(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Samples of one channel as `pixels` draws them: values row by row, and the width."""
    shape = found["dataset"].get("shape") or []
    if found["dataset"].get("kind") != "image" or len(shape) != 3 or shape[0] != 1:
        return []
    highest = (found["dataset"].get("value_range") or [0, 255])[1]
    return [
        {
            "index": item["index"],
            "class": item["class"],
            "values": [value for line in item["features"][0] for value in line],
            "width": shape[2],
            "highest": highest,
        }
        for item in found["items"]
    ]


def _lead(needs: int, work: int, serving: list[overview.Serving]) -> str:
    first = f"**{needs} {'thing needs' if needs == 1 else 'things need'} you.**" if needs else "Nothing needs you."
    goes_on = f"**{work}** in progress" if work else "Nothing is in progress"
    answer = sum(row.pill.tone == "ok" for row in serving)
    asked = sum(row.per_second for row in serving)
    words = (
        f"{answer} {'deployment answers' if answer == 1 else 'deployments answer'}" if answer else "nothing is served"
    )
    rate = f" **{asked:,.1f} requests a second**" if asked >= 0.1 else ""
    return f"{first} {goes_on}, {words}{rate}."


class RunExample(Posted):
    def post(self, request: HttpRequest) -> HttpResponse:
        def work() -> str:
            examples.start(self.workspace, self.actor)
            return self.root

        return self.act(work, "The example has started. It goes on by itself.")

    def after_refusal(self) -> str:
        return self.root


class Navigation(WorkspacePage):
    """The sidebar alone, since its counts change while any page is open."""

    def get(self, request: HttpRequest) -> HttpResponse:
        request.page_section = request.GET.get("section", "")  # type: ignore[attr-defined]
        return render(request, "components/sidebar.html")


class Events(WorkspacePage):
    """Who or what changed what, when and why?"""

    section = "events"

    def get(self, request: HttpRequest) -> HttpResponseBase:
        events = Event.objects.filter(workspace=self.workspace)
        kinds = [kind for kind in rows.SECTIONS if kind in models_by_kind()]
        kind, thing, actor = (request.GET.get(name, "").strip() for name in ("kind", "thing", "actor"))
        if kind in kinds:
            events = events.filter(kind=kind)
        elif not thing:
            events = events.exclude(kind="placement")
        if thing:
            events = events.filter(row_id=_row_id(thing))
        if actor:
            events = events.filter(actor_name__icontains=actor)
        if request.GET.get("failed"):
            events = events.filter(new__in=["failed", "rejected", "degraded", "unreachable"])
        if request.GET.get("as") == "jsonl":
            return _as_lines(events)
        before = request.GET.get("before", "")
        if (last := whole(before)) is not None:
            events = events.filter(id__lt=last)
        found = list(events.order_by("-id")[: PAGE_ROWS + 1])
        query = request.GET.copy()
        query["before"] = str(found[PAGE_ROWS - 1].pk) if len(found) > PAGE_ROWS else ""
        export = request.GET.copy()
        export["as"] = "jsonl"
        return self.page(
            "core/events.html",
            Page(
                "Events",
                "What became of everything in this workspace, and by whom. The newest first; kept for 90 days.",
                actions=[Action("Download as JSON Lines", f"?{export.urlencode()}", "download")],
            ),
            events=rows.lines(self.root, found[:PAGE_ROWS]),
            older=f"?{query.urlencode()}" if query["before"] else "",
            kinds=[(name, models_by_kind()[name].title, name == kind) for name in kinds],
            filters={"thing": thing, "actor": actor, "failed": request.GET.get("failed", ""), "kind": kind},
            filtered=bool(kind or thing or actor or request.GET.get("failed")),
        )


def _row_id(text: str) -> Any:
    try:
        return ids.parse(text.partition("_")[0], text)
    except ValueError:
        return None


def _as_lines(events: Any) -> HttpResponseBase:
    names = ("at", "kind", "row_id", "actor", "actor_name", "request_id", "old", "new", "reason", "message")

    def lines() -> Iterator[str]:
        for values in events.order_by("id").values(*names).iterator(chunk_size=500):
            values["at"], values["row_id"] = values["at"].isoformat(), str(values["row_id"])
            yield json.dumps(values) + "\n"

    response = HttpResponse("".join(lines()), content_type="application/jsonl; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="events.jsonl"'
    return response


class Health(WorkspacePage):
    """Do the parts of the control plane answer, and do the scheduled jobs run?"""

    section = "health"

    def get(self, request: HttpRequest) -> HttpResponse:
        hosts = list(Host.objects.order_by("name"))
        parts = health.services(hosts)
        silent = [part for part in parts if not part.well]
        lead = (
            "**Every part answers.** Deployments go on serving even when all of this is away."
            if not silent
            else f"**{', '.join(part.name for part in silent)}** does not answer. Deployments go on serving."
        )
        pill = Pill("ok", "Healthy") if not silent else Pill("warn", "Needs a look")
        page = Page("Health", bold(lead), pill)
        return self.page("core/health.html", page, parts=parts, hosts=hosts, jobs=health.jobs(), now=timezone.now())


async def stream(request: HttpRequest, workspace: str) -> HttpResponseBase:
    """Ids of what changes in this workspace. Who may hear is asked now and then; no database connection is held."""
    workspace_id = await sync_to_async(_heard_workspace)(request, workspace)
    if workspace_id is None:
        return HttpResponse("There is no such workspace for you.\n", status=404, content_type="text/plain")
    may_hear = partial(sync_to_async(_may_hear), request.user.pk, workspace_id)
    response = StreamingHttpResponse(live.stream(workspace_id, may_hear), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"
    return response


def _heard_workspace(request: HttpRequest, slug: str) -> str | None:
    user = request.user
    try:
        found = membership(user, slug) if isinstance(user, User) or user.is_authenticated else None
        return str(found.workspace_id) if found else None
    finally:
        if not connection.in_atomic_block:
            connection.close()


def _may_hear(user_id: Any, workspace_id: str) -> bool:
    """While the database is away nobody is sent off: there is nothing to hear then."""
    try:
        return Membership.objects.filter(user=user_id, workspace__id=workspace_id, user__is_active=True).exists()
    except DatabaseError:
        return True
    finally:
        if not connection.in_atomic_block:
            connection.close()


def favicon(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect("/static/favicon.svg")
