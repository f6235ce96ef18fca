"""Pages of exports: the list, and the certificate with its way to a deployment."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from apps.accounts import audit
from apps.core.checks import related
from apps.core.errors import Conflict, Invalid, Missing
from apps.core.figures import duration
from apps.core.models import Goal
from apps.core.page import Action, Crumb, EmptyState, KeyValue, LogView, Page, Progress, Tab, bold
from apps.core.pages import logs, rows
from apps.core.pages.base import Posted, WorkspacePage, add_errors
from apps.core.pages.lists import listing
from apps.core.phases import DELETED
from apps.core.wants import want
from apps.deployments.models import Deployment, Revision
from apps.deployments.services import create_deployment, create_revision
from apps.exports import certificate
from apps.exports.forms import DeployForm
from apps.exports.models import Export
from apps.exports.services import check_export_unused
from apps.exports.tolerances import OPTIMISATIONS
from apps.placements.logs import placement_of
from apps.registry.model_views import download
from apps.registry.models import ModelVersion

SELECT = ("model_version__model", "dataset_version__dataset", "file", "workspace")
FILTERS = {
    "phase": {
        "Running": ("queued", "exporting", "cleaning"),
        "Certified": ("succeeded",),
        "Rejected": ("rejected",),
        "Failed": ("failed",),
    }
}


class ExportsPage(WorkspacePage):
    section = "exports"


def title(export: Export) -> str:
    return OPTIMISATIONS.get(export.optimisation, export.optimisation)


class Exports(ExportsPage):
    """May I trust the smaller model?"""

    def get(self, request: HttpRequest) -> HttpResponse:
        exports = Export.objects.filter(workspace=self.workspace).exclude(phase=DELETED).select_related(*SELECT)
        found = listing(request, exports, Export.prefix, FILTERS)
        ready = ModelVersion.objects.filter(workspace=self.workspace, phase="ready").select_related("model")
        newest = ready.order_by("-pk").first() if not found.rows and not found.filtered else None
        actions = []
        if newest and self.may_write:
            actions = [Action(f"Export {newest.name}", f"{rows.url(self.root, newest)}#export", "package", "primary")]
        return self.page(
            "exports/list.html",
            Page(
                "Exports", "A model in a form that serves, each with a certificate that compares it with the original."
            ),
            listing=found,
            lines=[self.line(export) for export in found.rows],
            empty=EmptyState(
                "No exports yet",
                "An export makes a version ready to serve, and proves what that costs in accuracy. "
                + ("" if newest else "Train a model first: it is made from a version."),
                actions,
            ),
        )

    def line(self, export: Export) -> tuple[Any, ...]:
        accuracy, size, latency = (
            certificate.figure(export, name) for name in ("accuracy_drop", "size_bytes", "latency_p50_ms")
        )
        return export, rows.url(self.root, export), rows.pill(export), title(export), accuracy, size, latency


class OneExport(ExportsPage):
    def export(self, export_id: str) -> Export:
        return self.row(Export, export_id, *SELECT)


class ExportPage(OneExport):
    """The certificate. A POST deploys."""

    tabs = ("", "logs", "events")

    def get(self, request: HttpRequest, export_id: str, tab: str = "") -> HttpResponse:
        if tab not in self.tabs:
            raise Missing("There is no such page of an export.")
        return self.show(self.export(export_id), tab)

    def form(self, export: Export, data: Any = None) -> DeployForm:
        there = Deployment.objects.filter(workspace=self.workspace, goal__in=[Goal.RUN, Goal.STOP])
        there = there.exclude(phase__in=[DELETED, "failed"])
        newest = Revision.objects.filter(deployment__in=there, number=F("deployment__revision"))
        models = dict(newest.values_list("deployment", "export__model_version__model__name"))
        model = export.model_version.model.name
        found = [(models.get(row.pk, model) != model, row.name, row) for row in there]
        choices = [
            (row.typed_id, f"{name}, which serves {models[row.pk]} so far: another model" if other else name)
            for other, name, row in sorted(found, key=lambda item: item[:2])
        ]
        return DeployForm(
            data,
            initial={"name": export.model_version.model.name},
            deployments=choices,
            rejected=export.phase == "rejected",
        )

    def post(self, request: HttpRequest, export_id: str, tab: str = "") -> HttpResponse:
        export = self.export(export_id)
        form = self.form(export, request.POST)
        if not form.is_valid():
            return self.show(export, "", form, 422)
        try:
            return self.act(
                lambda: self.deploy(export, form), "Deploying. It answers as soon as it has loaded the model."
            )
        except (Invalid, Conflict) as refusal:
            add_errors(form, refusal)
            return self.show(export, "", form, 422)

    def deploy(self, export: Export, form: DeployForm) -> str:
        values = form.cleaned_data
        more = {"export": export, "note": values["note"], "override_reason": values.get("override_reason", "")}
        if values.get("target"):
            deployment = related(Deployment, self.workspace, values["target"], "target", ("workspace",))
            create_revision(deployment, self.actor, **more)
        else:
            deployment = create_deployment(
                self.workspace, self.actor, name=values["name"], replicas=values["replicas"], **more
            )
        return rows.url(self.root, deployment)

    def show(self, export: Export, tab: str, form: DeployForm | None = None, status: int = 200) -> HttpResponse:
        address = rows.url(self.root, export)
        events = rows.events_of(export)
        revisions = (
            Revision.objects.filter(export=export).exclude(deployment__phase=DELETED).select_related("deployment")
        )
        may_deploy = self.may_write and export.phase in {"succeeded", "rejected"} and export.goal == Goal.RUN
        return self.page(
            "exports/export.html",
            self.head(export, address, tab, len(events)),
            status,
            export=export,
            tab=tab,
            live=rows.live(export),
            address=address,
            working=self.working(export),
            groups=certificate.groups(export.certificate),
            classes=certificate.classes(export.certificate),
            proof=[*certificate.proof(export, self.root), *self.took(export)],
            warnings=export.certificate.get("warnings") or [],
            form=(form or self.form(export)) if may_deploy else None,
            broken=certificate.broken(export) if export.phase == "rejected" else "",
            form_open=form is not None or self.request.GET.get("anyway"),
            revisions=[(item, rows.url(self.root, item.deployment), rows.pill(item.deployment)) for item in revisions],
            timeline=rows.timeline(export, events),
            log=LogView("log", f"{address}log", not export.is_final, f"{address}log?as=text"),
            events=rows.lines(self.root, events) if tab == "events" else [],
            version_url=rows.url(self.root, export.model_version),
            dialog=rows.delete_dialog(export, address, goes=[("The exported file and its certificate", "")]),
        )

    def took(self, export: Export) -> list[KeyValue]:
        if not export.is_final:
            return []
        return [KeyValue("Took", duration((export.phase_since - export.created_at).total_seconds()))]

    def working(self, export: Export) -> Progress | None:
        if export.is_final:
            return None
        if export.progress:
            return Progress(export.progress, export.message, large=True)
        return Progress(None, export.message or "Waiting for a place to run")

    def head(self, export: Export, address: str, tab: str, events: int) -> Page:
        version = export.model_version
        names = (("", "Certificate", None), ("logs", "Logs", None), ("events", "Events", events))
        return Page(
            f"{title(export)}, of {version.name}",
            bold(lead(export)),
            rows.pill(export),
            breadcrumbs=[
                Crumb("Exports", self.url("exports")),
                Crumb(version.name, rows.url(self.root, version)),
                Crumb(f"{title(export)}, export {export.number}"),
            ],
            tabs=[Tab(label, f"{address}{name}/" if name else address, name == tab, n) for name, label, n in names],
            actions=self.actions(export, address),
            state="" if export.phase == "succeeded" else rows.pill(export).word,
            live=rows.live(export),
        )

    def actions(self, export: Export, address: str) -> list[Action]:
        found = []
        if export.file_id and export.phase in {"succeeded", "rejected"}:
            found.append(Action("Download", f"{address}file", "download"))
        if not self.may_write:
            return found
        if not export.is_final:
            if export.is_ending or export.goal != Goal.RUN:
                return [Action("Cancel export", icon="x", disabled="It is ending already.")]
            return [Action("Cancel export", f"{address}cancel", "x", "danger", "post", busy="Cancelling")]
        if export.phase == "succeeded":
            found.append(Action("Deploy", "#deploy", "radio-tower", "primary"))
        return [*found, *rows.delete_action(True)]


def lead(export: Export) -> str:
    """The verdict, its first sentence in bold."""
    if export.phase == "succeeded":
        words = export.message
    elif export.phase in {"rejected", "failed"}:
        words = export.message or "It failed."
    elif export.phase == "cancelled":
        words = "It was cancelled before it was certified."
    else:
        return export.message or "Waiting for a place to run."
    head, dot, rest = words.partition(". ")
    return f"**{head}{'.' if dot else ''}** {rest}".strip()


class ExportLog(OneExport):
    def get(self, request: HttpRequest, export_id: str) -> HttpResponse:
        export = self.export(export_id)
        return logs.answer(request, placement_of(export), "node", export.is_final)


class ExportFile(OneExport):
    def get(self, request: HttpRequest, export_id: str) -> HttpResponseBase:
        export = self.export(export_id)
        if export.file is None:
            raise Missing("There is no file yet.")
        version = export.model_version
        return download(request, export.file, f"{version.model.name}-v{version.number}-{export.optimisation}.onnx")


class CancelExport(Posted, OneExport):
    def post(self, request: HttpRequest, export_id: str) -> HttpResponse:
        export = self.export(export_id)

        def work() -> str:
            want(export, self.actor, goal=Goal.STOP)
            return rows.url(self.root, export)

        return self.act(work, "Cancelling the export.")


class DeleteExport(Posted, OneExport):
    def post(self, request: HttpRequest, export_id: str) -> HttpResponse:
        export = self.export(export_id)

        def work() -> str:
            Export.objects.select_for_update(no_key=True).get(pk=export.pk)
            check_export_unused(export)
            want(export, self.actor, goal=Goal.DELETE)
            audit.record(self.actor, f"{export.kind}.delete", export.typed_id, workspace=self.workspace)
            return self.url("exports")

        return self.act(work, f"Deleting {export.label}.")
