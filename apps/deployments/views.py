"""Pages of deployments: the list, and one deployment with its traffic, revisions, playground, log and events."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from apps.accounts import audit
from apps.core import figures, overview
from apps.core.checks import whole
from apps.core.errors import Invalid, Missing, invalid
from apps.core.models import Goal
from apps.core.page import (
    Action,
    Chart,
    Crumb,
    DangerDialog,
    EmptyState,
    KeyValue,
    LogView,
    Page,
    Tab,
    bold,
)
from apps.core.pages import logs, rows
from apps.core.pages.base import Posted, WorkspacePage, add_errors
from apps.core.phases import DELETED
from apps.core.wants import want
from apps.deployments import deployment_page, playground, services
from apps.deployments.forms import GIB, ScaleForm
from apps.deployments.models import Deployment, Revision
from apps.deployments.playground_page import playground_context
from apps.exports.models import Export
from apps.exports.views import title as export_title
from apps.placements.logs import placement_of

CHART_SECONDS = 15
CHARTS = ("requests", "latency", "errors")
TABS = (("", "Overview"), ("playground", "Playground"), ("logs", "Logs"), ("events", "Events"))


class DeploymentsPage(WorkspacePage):
    section = "deployments"

    def deployment(self, typed: str) -> Deployment:
        return self.row(Deployment, typed, "workspace")

    def address(self, row: Deployment) -> str:
        return rows.url(self.root, row)

    def revisions(self, row: Deployment) -> list[Revision]:
        select = (
            "export__model_version__model",
            "export__dataset_version__dataset",
            "export__dataset_version__prepared",
        )
        return list(Revision.objects.filter(deployment=row).select_related(*select).order_by("-number")[:100])


class Deployments(DeploymentsPage):
    """Which models answer, where, and how well?"""

    def get(self, request: HttpRequest) -> HttpResponse:
        deployments = list(
            Deployment.objects.filter(workspace=self.workspace)
            .exclude(phase=DELETED)
            .select_related("workspace")
            .order_by("name")[:200]
        )
        traffic = {row["deployment"]: row for row in overview.usage_sums(deployments)}
        lines = [
            (row, services.url(row), overview.serving_row(self.root, row, traffic.get(row.pk))) for row in deployments
        ]
        certified = Export.objects.filter(workspace=self.workspace, phase="succeeded").count() if not lines else 0
        see = [Action("See exports", self.url("exports"), "package", "primary")]
        have = f" You have {figures.count(certified, 'certified export')}." if certified else ""
        return self.page(
            "deployments/list.html",
            Page("Deployments", "Models that answer, each at a URL that stays the same through all revisions."),
            lines=lines,
            empty=EmptyState("No deployments yet", f"Deploy an export and get a URL that answers.{have}", see),
        )


class DeploymentPage(DeploymentsPage):
    """Is it answering, and how well? A POST changes how many replicas there are."""

    def get(self, request: HttpRequest, deployment_id: str, tab: str = "") -> HttpResponse:
        if tab not in {name for name, _label in TABS}:
            raise Missing("There is no such page of a deployment.")
        return self.show(self.deployment(deployment_id), tab)

    def post(self, request: HttpRequest, deployment_id: str, tab: str = "") -> HttpResponse:
        row = self.deployment(deployment_id)
        form = ScaleForm(request.POST)
        if not form.is_valid():
            return self.show(row, "", form, 422)
        try:
            return self.act(lambda: self.resize(row, form), f"Scaling {row.name}.")
        except Invalid as refusal:
            add_errors(form, refusal, {"memory_bytes": "memory_gib"})
            return self.show(row, "", form, 422)

    def resize(self, row: Deployment, form: ScaleForm) -> str:
        spec = dict(form.spec)
        if spec["memory_bytes"] == int(round(row.memory_bytes / GIB, 3) * GIB):
            spec["memory_bytes"] = row.memory_bytes  # what the form showed rounded was not changed
        services.resize(row, self.actor, spec)
        return self.address(row)

    def show(self, row: Deployment, tab: str, form: ScaleForm | None = None, status: int = 200) -> HttpResponse:
        address = self.address(row)
        context: dict[str, Any] = {"deployment": row, "tab": tab, "live": rows.live(row), "address": address}
        if tab == "logs":
            context["log"] = LogView("log", f"{address}log", True, f"{address}log?as=text", sources=self.sources(row))
        elif tab == "events":
            context["events"] = rows.lines(self.root, rows.events_of(row))
        elif tab == "":
            context |= self.overview(row, address, form)
        elif tab == "playground":
            context |= playground_context(self, row, self.revisions(row))
        context["dialog"] = delete_dialog(row, address)
        return self.page("deployments/deployment.html", head(self, row, tab), status, **context)

    def sources(self, row: Deployment) -> list[str]:
        placement = placement_of(row)
        names = sorted((placement.log_offsets if placement else {}), key=str)
        return [f"replica {name}" for name in names if name.isdecimal()]

    def overview(self, row: Deployment, address: str, form: ScaleForm | None) -> dict[str, Any]:
        revisions = self.revisions(row)
        current = next((item for item in revisions if item.number == row.revision), None)
        placements = deployment_page.living(row)
        chosen = self.request.GET.get("range", deployment_page.USUAL_RANGE)
        used = deployment_page.has_usage(row)
        initial = {"replicas": row.replicas, "cpus": row.cpus, "memory_gib": round(row.memory_bytes / GIB, 3)}
        body = playground.template(current.export.signature) if current else {}
        return {
            "url": services.url(row),
            "ranges": [(key, label, key == chosen) for key, (label, _span, _bucket) in deployment_page.RANGES.items()],
            "charts": charts(row, address, chosen) if used else [],
            "copies": deployment_page.copies(placements),
            "replicas": overview.replicas(row),
            "revisions": [(item, export_title(item.export), rows.url(self.root, item.export)) for item in revisions],
            "form": form or ScaleForm(initial=initial),
            "calls": deployment_page.calls(row, current, body) if current else [],
            "facts": self.facts(row, placements),
            "problem": row.phase in {"degraded", "failed"},
        }

    def facts(self, row: Deployment, placements: list[Any]) -> list[KeyValue]:
        hosts = sorted({placement.place.name for placement in placements})
        return [
            KeyValue("Id", figures.short_id(row.typed_id), mono=True, copy=True, full=row.typed_id),
            KeyValue("Runs on", ", ".join(hosts) or "nothing now"),
            KeyValue("Replica", f"{figures.number(row.cpus)} processors, {figures.memory(row.memory_bytes)}"),
            KeyValue("Costs", "$0.00/h on this machine"),
            KeyValue("Name in the API", row.name, mono=True),
        ]


def delete_dialog(row: Deployment, address: str) -> DangerDialog:
    serving = row.phase in {"serving", "updating", "degraded"}
    return rows.delete_dialog(
        row,
        address,
        goes=[("Its URL and its revisions", ""), (figures.count(row.ready_replicas, "replica"), "")],
        stops=[f"Calls to {services.url(row)} get 404"] if serving else [],
        stays=["The exports that it served"],
        confirm=row.name if serving else "",
    )


def head(view: DeploymentsPage, row: Deployment, tab: str) -> Page:
    address = view.address(row)
    crumbs = [Crumb("Deployments", view.url("deployments")), Crumb(row.name, address)]
    label = dict(TABS)[tab]
    lead = (
        "The answer comes from the deployed model, not from the page; the call below is exactly what was sent."
        if tab == "playground"
        else bold(deployment_page.lead(row))
    )
    return Page(
        row.name,
        lead,
        rows.pill(row),
        tags=[f"r{row.serving_revision or row.revision}"],
        breadcrumbs=[*crumbs, Crumb(label)] if tab else crumbs,
        tabs=[Tab(words, f"{address}{name}/" if name else address, name == tab) for name, words in TABS],
        actions=_actions(view, row, address),
        state="" if row.phase == "serving" else rows.pill(row).word,
        live=rows.live(row),
    )


def _actions(view: DeploymentsPage, row: Deployment, address: str) -> list[Action]:
    if not view.may_write or row.goal == Goal.DELETE:
        return []
    found = []
    if row.goal == Goal.RUN and row.phase != "failed":
        found.append(Action("Stop", f"{address}stop", "square", method="post", busy="Stopping"))
    elif row.phase != "failed":
        found.append(Action("Start", f"{address}start", "play", "primary", "post", busy="Starting"))
    return [*found, *rows.delete_action(True)]


def charts(row: Deployment, address: str, chosen: str) -> list[Chart]:
    titles = {"requests": "Requests a second", "latency": "Latency", "errors": "Failed calls"}
    live = rows.live(row)
    return [
        Chart(
            f"chart-{name}",
            titles[name],
            f"{address}chart/{name}?range={chosen}",
            live=live,
            every=CHART_SECONDS,
        )
        for name in CHARTS
    ]


class DeploymentLog(DeploymentsPage):
    def get(self, request: HttpRequest, deployment_id: str) -> HttpResponse:
        row = self.deployment(deployment_id)
        ended = row.phase in {"stopped", "failed"}
        return logs.answer(request, placement_of(row), "replica", ended)


class DeploymentChart(DeploymentsPage):
    def get(self, request: HttpRequest, deployment_id: str, name: str) -> HttpResponse:
        row = self.deployment(deployment_id)
        if name not in CHARTS:
            raise Missing("There is no such chart.")
        return JsonResponse(deployment_page.chart(row, name, request.GET.get("range", "")))


class DeploymentAct(Posted, DeploymentsPage):
    """stop, start, roll-back or delete."""

    act_name = ""

    def post(self, request: HttpRequest, deployment_id: str) -> HttpResponse:
        row = self.deployment(deployment_id)
        act, said = {
            "stop": (self.stop, f"Stopping {row.name}. Calls that are under way are finished."),
            "start": (self.start, f"Starting {row.name}."),
            "roll-back": (self.roll_back, f"Rolling back {row.name}."),
            "delete": (self.delete, f"Deleting {row.name}."),
        }[self.act_name]
        return self.act(lambda: act(row), said)

    def stop(self, row: Deployment) -> str:
        want(row, self.actor, goal=Goal.STOP)
        return self.address(row)

    def start(self, row: Deployment) -> str:
        want(row, self.actor, goal=Goal.RUN)
        return self.address(row)

    def roll_back(self, row: Deployment) -> str:
        number = whole(self.request.POST.get("revision", ""))
        if number is None:
            raise invalid("revision", "No revision was chosen.", "Press the button of one.")
        services.roll_back(row, self.actor, number)
        return self.address(row)

    def delete(self, row: Deployment) -> str:
        if row.phase in {"serving", "updating", "degraded"}:
            self.confirmed(row.name)
        want(row, self.actor, goal=Goal.DELETE)
        audit.record(self.actor, f"{row.kind}.delete", row.typed_id, workspace=self.workspace)
        return self.url("deployments")
