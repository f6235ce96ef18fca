"""Pages of training: the list, a new run, and one run with its metrics and log."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from apps.accounts import audit
from apps.core.checks import related
from apps.core.errors import Invalid, Missing
from apps.core.models import Goal
from apps.core.page import Action, Crumb, EmptyState, KeyValue, LogView, Page, Tab, bold
from apps.core.pages import logs, rows
from apps.core.pages.base import Posted, WorkspacePage, add_errors
from apps.core.pages.lists import listing
from apps.core.phases import DELETED
from apps.core.wants import want
from apps.placements.logs import placement_of
from apps.placements.places import places_of
from apps.registry.models import DatasetVersion
from apps.registry.services import model_named
from apps.training import run_page
from apps.training.forms import GIB, RunForm, values_of
from apps.training.hyperparameters import RECIPES
from apps.training.models import MetricPoint, TrainingRun
from apps.training.services import create_training_run, metric_series

SELECT = ("model", "script", "dataset_version__dataset", "result", "workspace", "place__host", "place__cluster")
FILTERS = {
    "phase": {
        "Queued": ("queued",),
        "Running": ("starting", "training", "cleaning"),
        "Succeeded": ("succeeded",),
        "Failed": ("failed",),
        "Cancelled": ("cancelled",),
    }
}
CHARTS: dict[str, dict[str, Any]] = {
    "loss": {
        "series": [("loss", "training", 1, False), ("held_out_loss", "held out", 2, True)],
        "y": {"format": "number"},
    },
    "accuracy": {
        "series": [("held_out_accuracy", "held out", 2, True)],
        "y": {"format": "percent", "min": 0, "max": 1.02},
    },
    "gradient": {"series": [("grad_norm", "gradient norm", 2, False)], "y": {"format": "number", "log": True}},
}


class TrainingPage(WorkspacePage):
    section = "training"


class Runs(TrainingPage):
    """Which run is best?"""

    def get(self, request: HttpRequest) -> HttpResponse:
        runs = TrainingRun.objects.filter(workspace=self.workspace).exclude(phase=DELETED).select_related(*SELECT)
        found = listing(request, runs, TrainingRun.prefix, FILTERS)
        new = [Action("New training run", self.url("training", "new"), "plus", "primary")] if self.may_write else []
        return self.page(
            "training/list.html",
            Page("Training", "Every run, the newest first. A run makes the next version of its model.", actions=new),
            listing=found,
            lines=[(run, rows.url(self.root, run), rows.pill(run)) for run in found.rows],
            empty=EmptyState(
                "No training runs yet",
                "A run learns from a dataset and makes a model version. The example shows all of it in 2 minutes.",
                new,
            ),
        )


class NewRun(TrainingPage):
    """Will this work, and how long?"""

    reads = "developer"

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.form_page(self.form())

    def form(self, data: Any = None) -> RunForm:
        source = self.source()
        initial = values_of(source) if source else {}
        initial |= {name: value for name, value in self.request.GET.items() if name not in {"clone", "again"}}
        versions = list(
            DatasetVersion.objects.filter(workspace=self.workspace, phase="ready")
            .select_related("dataset")
            .order_by("-pk")
        )
        recipe = (data or initial).get("recipe") or _recipe_for(versions, initial.get("dataset_version"))
        initial.setdefault("recipe", recipe)
        initial.setdefault("model", versions[0].dataset.name if versions else "")
        return RunForm(data, initial=initial, versions=versions, recipe=recipe, source=source)

    def source(self) -> TrainingRun | None:
        clone = self.request.GET.get("clone", "")
        return self.row(TrainingRun, clone, *SELECT) if clone else None

    def form_page(self, form: RunForm, status: int = 200) -> HttpResponse:
        source = self.source()
        lead = (
            bold(f"Started from **{source.label}**. Change what should differ.")
            if source
            else "A recipe, a dataset, and how long. It begins as soon as there is room on a host."
        )
        page = Page(
            "New training run",
            lead,
            breadcrumbs=[Crumb("Training", self.url("training")), Crumb("New run")],
        )
        return self.page("training/new.html", page, status, form=form, source=source)

    def post(self, request: HttpRequest) -> HttpResponse:
        form = self.form(request.POST)
        if "recipe_chosen" in request.POST or not form.is_valid():
            return self.form_page(form, 422 if form.errors else 200)
        try:
            return self.act(lambda: self.start(form), "The run has started.")
        except Invalid as refusal:
            add_errors(form, refusal, {"deadline_seconds": "deadline_hours", "memory_bytes_per_process": "memory_gib"})
            return self.form_page(form, 422)

    def start(self, form: RunForm) -> str:
        values = form.cleaned_data
        chosen = values["dataset_version"]
        version = related(DatasetVersion, self.workspace, chosen, "dataset_version") if chosen else None
        source = self.source()
        program: dict[str, Any] = {"recipe": values.get("recipe", "")}
        if source and form.script_name:
            program = {"script": source.script, "script_name": source.script_name, "secrets": source.secrets}
        if source:
            there = places_of(self.workspace).filter(pk=source.place_id) if source.place_id else None
            program |= {"nodes": source.nodes, "place": there.first() if there else None}  # none where it is gone
        run = create_training_run(
            self.workspace,
            self.actor,
            model=model_named(self.workspace, self.actor, values["model"]),
            **program,
            dataset_version=version,
            processes=values["processes"],
            hyperparameters=form.hyperparameters(),
            memory_bytes_per_process=int(values["memory_gib"] * GIB),
            deadline_seconds=int(values["deadline_hours"] * 3600),
        )
        return rows.url(self.root, run)


def _recipe_for(versions: list[DatasetVersion], chosen: str | None) -> str:
    """The recipe that learns from the chosen dataset, or the first one."""
    version = next((item for item in versions if item.typed_id == chosen), versions[0] if versions else None)
    kind = version.report.get("kind") if version else None
    return next((item.name for item in RECIPES.values() if item.dataset_kind == kind), next(iter(RECIPES)))


class OneRun(TrainingPage):
    """Finds the run that the address names."""

    def run(self, run_id: str) -> TrainingRun:
        return self.row(TrainingRun, run_id, *SELECT)

    def address(self, run: TrainingRun) -> str:
        return rows.url(self.root, run)


class RunPage(OneRun):
    """How far, how good, how long? And when it broke: what broke, and what do I do?"""

    tabs = ("", "logs", "configuration", "events")

    def get(self, request: HttpRequest, run_id: str, tab: str = "") -> HttpResponse:
        if tab not in self.tabs:
            raise Missing("There is no such page of a run.")
        run = self.run(run_id)
        address = self.address(run)
        events = rows.events_of(run)
        names = set(MetricPoint.objects.filter(run=run).values_list("name", flat=True).distinct())
        timeline = rows.timeline(run, events)
        failed = run.phase == "failed"
        return self.page(
            "training/run.html",
            self.head(run, address, tab, len(events)),
            run=run,
            tab=tab,
            live=rows.live(run),
            progress=run_page.progress(run),
            stats=run_page.stats(run),
            charts=run_page.charts(run, address, names),
            timeline=timeline,
            log=LogView("log", f"{address}log", not run.is_final, f"{address}log?as=text", sources=()),
            facts=[*run_page.facts(run, self.root), KeyValue("Started by", self.who(events))],
            settings=run_page.settings_rows(run),
            same_as=run_page.same_as(run, self.workspace.slug),
            events=rows.lines(self.root, events),
            failure=run_page.failure_title(run) if failed else None,
            ways=run_page.ways(run, address, self.root, self.may_write) if failed else [],
            report=run_page.bug_report(run) if failed else "",
            result_url=rows.url(self.root, run.result) if run.result else "",
            dialog=rows.delete_dialog(
                run,
                address,
                goes=[("Its metrics, log and checkpoint", "")],
                stays=[f"{run.result.model.name} v{run.result.number} stays; it is a thing of its own."]
                if run.result
                else [],
            ),
        )

    def who(self, events: list[Any]) -> str:
        return events[-1].actor_name if events else "not known"

    def head(self, run: TrainingRun, address: str, tab: str, events: int) -> Page:
        names = (("", "Overview", None), ("logs", "Logs", None), ("configuration", "Configuration", None))
        tabs = [Tab(label, f"{address}{name}/" if name else address, tab == name, n) for name, label, n in names]
        tabs.append(Tab("Events", f"{address}events/", tab == "events", events))
        percent = f"{run.progress:.0%}" if run.phase == "training" and run.progress else rows.pill(run).word
        return Page(
            run.label,
            run_page.lead(run),
            rows.pill(run),
            breadcrumbs=[Crumb("Training", self.url("training")), Crumb(run.label)],
            tabs=tabs,
            actions=self.actions(run, address),
            state=percent,
            live=rows.live(run),
        )

    def actions(self, run: TrainingRun, address: str) -> list[Action]:
        if not self.may_write:
            return []
        clone = Action("Clone", f"{self.url('training', 'new')}?clone={run.typed_id}", "copy")
        if not run.is_final:
            if run.is_ending or run.goal != Goal.RUN:
                return [clone, Action("Cancel run", icon="x", disabled="It is ending already.")]
            return [clone, Action("Cancel run", f"{address}cancel", "x", "danger", "post", busy="Cancelling")]
        delete = rows.delete_action(True)
        if run.result is not None and run.result.phase == "ready":
            export = f"{rows.url(self.root, run.result)}#export"
            return [clone, Action(f"Export v{run.result.number}", export, "package", "primary"), *delete]
        return [clone, *delete]


class RunLog(OneRun):
    def get(self, request: HttpRequest, run_id: str) -> HttpResponse:
        run = self.run(run_id)
        return logs.answer(request, placement_of(run), "node", run.is_final)


class RunChart(OneRun):
    """Points of a chart, in the shape that static/js/chart.js reads."""

    def get(self, request: HttpRequest, run_id: str, name: str) -> HttpResponse:
        run = self.run(run_id)
        if name not in CHARTS:
            raise Missing("There is no such chart.")
        chart = CHARTS[name]
        series = metric_series(run, names=[metric for metric, *_ in chart["series"]])
        xs = sorted({step for lists in series.values() for step in lists["steps"]})
        return JsonResponse(
            {
                "x": {"label": "step"},
                "xs": xs,
                "x_max": run.total_steps or None,
                "y": chart["y"],
                "series": [
                    {"name": words, "values": _at(series[metric], xs), "colour": colour, "dash": dash, "sparse": True}
                    for metric, words, colour, dash in chart["series"]
                    if metric in series
                ],
                "marks": [{"x": run.step, "words": f"stopped at {run.step:,}", "tone": "bad"}]
                if run.phase == "failed" and xs
                else [],
                "empty": "No points were written."
                if run.is_final
                else "The first points come a few seconds after the start.",
            }
        )


def _at(lists: dict[str, list[Any]], xs: list[int]) -> list[float | None]:
    values = dict(zip(lists["steps"], lists["values"], strict=True))
    return [values.get(x) for x in xs]


class CancelRun(Posted, OneRun):
    def post(self, request: HttpRequest, run_id: str) -> HttpResponse:
        run = self.run(run_id)

        def work() -> str:
            want(run, self.actor, goal=Goal.STOP)
            return self.address(run)

        return self.act(work, f"Cancelling {run.label}. Its last checkpoint is written first, up to 30 s.")


class DeleteRun(Posted, OneRun):
    def post(self, request: HttpRequest, run_id: str) -> HttpResponse:
        run = self.run(run_id)

        def work() -> str:
            want(run, self.actor, goal=Goal.DELETE)
            audit.record(self.actor, f"{run.kind}.delete", run.typed_id, workspace=self.workspace)
            return self.url("training")

        return self.act(work, f"Deleting {run.label}.")
