"""Pages of models: the list, an upload, one model with its lineage, and one version with its files and exports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from apps.accounts import audit
from apps.core import figures
from apps.core.checks import find
from apps.core.errors import Conflict, Invalid, Missing
from apps.core.figures import number, percent, short_id
from apps.core.models import Goal
from apps.core.page import Action, Crumb, EmptyState, KeyValue, Page, Tab, bold
from apps.core.pages import rows
from apps.core.pages.base import Posted, WorkspacePage, add_errors
from apps.core.phases import DELETED
from apps.core.wants import want
from apps.exports.forms import ExportForm
from apps.exports.services import create_export
from apps.registry import blobs
from apps.registry.blobs_api import blob_content
from apps.registry.forms import ModelForm
from apps.registry.lineage import in_service, lineage
from apps.registry.models import Model, ModelFile, ModelVersion
from apps.registry.services import (
    check_model_version_unused,
    create_model,
    create_model_version,
    remove_container,
)
from apps.training.models import TrainingRun


class ModelsPage(WorkspacePage):
    section = "models"


class Models(ModelsPage):
    """Which version answers where?"""

    def get(self, request: HttpRequest) -> HttpResponse:
        newest = ModelVersion.objects.exclude(phase=DELETED).order_by("-number")
        models: list[Any] = list(
            Model.objects.filter(workspace=self.workspace)
            .order_by("name")
            .prefetch_related(Prefetch("versions", newest, to_attr="live_versions"))[:500]
        )
        serving = in_service(self.workspace)
        lines = [
            (
                model,
                self.url("models", model.typed_id),
                model.live_versions[0] if model.live_versions else None,
                rows.pill(model.live_versions[0]) if model.live_versions else None,
                [pair[0] for version in model.live_versions for pair in serving.get(version.pk, [])],
            )
            for model in models
        ]
        new = [Action("Bring a model", self.url("models", "new"), "upload")] if self.may_write else []
        train = [Action("New training run", self.url("training", "new"), "plus", "primary")] if self.may_write else []
        return self.page(
            "registry/models.html",
            Page("Models", "Every model with its newest version, and where it answers.", actions=[*new, *train]),
            lines=lines,
            empty=EmptyState(
                "No models yet",
                "Train one, or bring one as ONNX. Pickles are refused because opening one runs its code.",
                [*train, *new],
            ),
        )


class NewModel(ModelsPage):
    """`?of=mdl_…` uploads a new version of a model."""

    reads = "developer"

    def of(self) -> Model | None:
        typed = self.request.GET.get("of", "")
        return find(Model, self.workspace, typed) if typed else None

    def get(self, request: HttpRequest) -> HttpResponse:
        of = self.of()
        return self.form_page(ModelForm(fixed_name=of.name if of else ""), of)

    def form_page(self, form: ModelForm, of: Model | None, status: int = 200) -> HttpResponse:
        title = f"New version of {of.name}" if of else "Bring a trained model"
        crumbs = [Crumb("Models", self.url("models")), Crumb(title)]
        page = Page(
            title, "Upload an ONNX file. It is opened in a cage, and refused if it can't be served.", breadcrumbs=crumbs
        )
        return self.page("registry/upload.html", page, status, form=form, button="Upload and check")

    def post(self, request: HttpRequest) -> HttpResponse:
        of = self.of()
        form = ModelForm(request.POST, request.FILES, fixed_name=of.name if of else "")
        if not form.is_valid():
            return self.form_page(form, of, 422)
        file = form.cleaned_data["file"]
        try:
            blob = blobs.store_stream(self.workspace, file.chunks())

            def work() -> str:
                model = of or create_model(self.workspace, self.actor, name=form.cleaned_data["name"])
                version = create_model_version(model, self.actor, blob=blob, filename=file.name)
                return rows.url(self.root, version)

            return self.act(work, f"{file.name} is uploaded and being checked.")
        except (Invalid, Conflict) as refusal:
            add_errors(form, refusal)
        except blobs.StorageFull as full:
            form.add_error("file", str(full))
        return self.form_page(form, of, 422)


class ModelOrVersion(ModelsPage):
    """`mdl_…` is a model, `ver_…` one of its versions."""

    def get(self, request: HttpRequest, model_id: str, tab: str = "") -> HttpResponse:
        if tab not in {"", "events"}:
            raise Missing("There is no such page of a model.")
        if model_id.startswith(f"{ModelVersion.prefix}_"):
            return self.version_page(self.version(model_id), tab)
        return self.model_page(self.row(Model, model_id))

    def post(self, request: HttpRequest, model_id: str, tab: str = "") -> HttpResponse:
        """The export form of a version."""
        version = self.version(model_id)
        form = ExportForm(request.POST)
        if not form.is_valid():
            return self.version_page(version, "", form, 422)
        try:
            return self.act(lambda: self.start_export(version, form), "The export has started.")
        except Invalid as refusal:
            add_errors(form, refusal, {"tolerances": "accuracy_drop_points"})
            return self.version_page(version, "", form, 422)

    def start_export(self, version: ModelVersion, form: ExportForm) -> str:
        export = create_export(
            self.workspace,
            self.actor,
            model_version=version,
            optimisation=form.cleaned_data["optimisation"],
            tolerances=form.tolerances(),
        )
        return rows.url(self.root, export)

    def version(self, typed: str) -> ModelVersion:
        return self.row(ModelVersion, typed, "model", "workspace")

    # --- one model ------------------------------------------------------------------------------------------------

    def model_page(self, model: Model) -> HttpResponse:
        versions = list(ModelVersion.objects.filter(model=model).exclude(phase=DELETED).order_by("-number")[:200])
        tree = lineage(self.workspace, self.root, versions)
        live = "model_version:* export:* deployment:* training_run:*"
        actions = []
        if self.may_write:
            again = f"{self.url('training', 'new')}?model={model.name}"
            actions = [
                Action("Upload a version", f"{self.url('models', 'new')}?of={model.typed_id}", "upload"),
                Action("Train again", again, "activity", "primary"),
            ]
        empty_actions = list(actions)
        if self.may_write and not versions:
            address = f"{self.url('models', model.typed_id)}delete"
            empty_actions.append(Action("Delete model", address, "trash-2", "danger", "post", busy="Deleting"))
        task = next((str(v.signature.get("task", "")).replace("_", " ") for v in versions if v.signature), "")
        running = list(
            TrainingRun.objects.filter(model=model, workspace=self.workspace)
            .exclude(phase__in=sorted(TrainingRun.phases.final))
            .order_by("-pk")[:10]
        )
        page = Page(
            model.name,
            bold(self.model_lead(tree, running)),
            tags=[task] if task else [],
            breadcrumbs=[Crumb("Models", self.url("models")), Crumb(model.name)],
            actions=actions,
            live=live,
        )
        return self.page(
            "registry/model.html",
            page,
            model=model,
            live=live,
            tree=tree,
            running=[(run, rows.url(self.root, run), rows.pill(run)) for run in running],
            empty=EmptyState("No versions", "A run makes one when it ends, or upload an ONNX file.", empty_actions),
        )

    def model_lead(self, tree: list[dict[str, Any]], running: list[TrainingRun]) -> str:
        served = next((item for item in tree if item["deployments"]), None)
        words = "No version is in service."
        if served:
            names = ", ".join(entry["row"].name for entry in served["deployments"])
            words = f"**v{served['version'].number} is in service**: {names} answers with it."
        elif not tree:
            words = "It has no version yet."
        if running:
            words += f" {running[0].label} is {running[0].current_phase.word.lower()} and makes the next one."
        return words

    # --- one version ----------------------------------------------------------------------------------------------

    def version_page(
        self, version: ModelVersion, tab: str, form: ExportForm | None = None, status: int = 200
    ) -> HttpResponse:
        address = rows.url(self.root, version)
        branch = lineage(self.workspace, self.root, [version])[0]
        events = rows.events_of(version)
        files = list(ModelFile.objects.filter(version=version).select_related("blob"))
        name = f"{version.model.name} v{version.number}"
        page = Page(
            name,
            bold(self.version_lead(version, branch)),
            branch["pill"],
            tags=[str(version.signature["task"]).replace("_", " ")] if version.signature.get("task") else [],
            breadcrumbs=[
                Crumb("Models", self.url("models")),
                Crumb(version.model.name, self.url("models", version.model.typed_id)),
                Crumb(f"v{version.number}"),
            ],
            tabs=[
                Tab("Overview", address, tab == ""),
                Tab("Events", f"{address}events/", tab == "events", len(events)),
            ],
            actions=self.version_actions(version),
            state=rows.pill(version).word if version.phase != "ready" else "",
            live=f"{rows.live(version)} export:* deployment:*",
        )
        return self.page(
            "registry/version.html",
            page,
            status,
            tab=tab,
            model_version=version,
            name=name,
            live=f"{rows.live(version)} export:* deployment:*",
            branch=branch,
            files=files,
            address=address,
            metrics=[(key.replace("_", " "), shown(key, value)) for key, value in sorted(version.metrics.items())],
            tensors=[
                (way, item, dimensions(item))
                for way in ("inputs", "outputs")
                for item in version.signature.get(way, [])
            ],
            facts=self.facts(version, branch),
            form=form or ExportForm(),
            events=rows.lines(self.root, events),
            dialog=rows.delete_dialog(
                version, address, goes=[(f"{len(files)} files", "")], stays=["The run that made it"]
            ),
        )

    def version_lead(self, version: ModelVersion, branch: dict[str, Any]) -> str:
        if version.phase == "failed":
            return f"**It can't be used.** {version.message}"[:400]
        if version.phase != "ready":
            return version.message or "It is checked next."
        figure = branch["figure"]
        good = f"**{percent(figure)}** right on held-out data. " if figure is not None else ""
        served = ", ".join(entry["row"].name for entry in branch["deployments"])
        certified = sum(item["row"].phase == "succeeded" for item in branch["exports"])
        if served:
            return f"{good}**In service**: {served} answers with it."
        words = f"{certified} certified {'export' if certified == 1 else 'exports'}, not deployed."
        return f"{good}{words if certified else 'Export it to serve it.'}"

    def version_actions(self, version: ModelVersion) -> list[Action]:
        if not self.may_write or not version.is_final:
            return []
        export = [Action("Export", "#export", "package", "primary")] if version.phase == "ready" else []
        return [*export, *rows.delete_action(True)]

    def facts(self, version: ModelVersion, branch: dict[str, Any]) -> list[KeyValue]:
        found = [KeyValue("Id", short_id(version.typed_id), mono=True, copy=True, full=version.typed_id)]
        if branch["run"]:
            found.append(KeyValue("Made by", branch["run"].label, branch["run_url"]))
        if branch["data"]:
            found.append(KeyValue("Learned from", branch["data"].name, branch["data_url"]))
        if version.filename:
            found.append(KeyValue("Uploaded", version.filename))
        classes = version.signature.get("classes") or []
        if classes:
            found.append(KeyValue("Classes", figures.number(len(classes))))
        scale = (version.signature.get("normalise") or {}).get("scale")
        if scale is not None:
            found.append(KeyValue("Input", f"values times {figures.number(scale)}"))
        return found


def dimensions(tensor: dict[str, Any]) -> str:
    """batch × 1 × 8 × 8"""
    sizes = tensor.get("shape", [])
    return " × ".join("any" if size < 0 and at else "batch" if size < 0 else str(size) for at, size in enumerate(sizes))


def shown(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return percent(value) if "accuracy" in name else number(value)


class ModelFileContent(ModelsPage):
    """A file of a version, whole or by range."""

    def get(self, request: HttpRequest, model_id: str, name: str) -> HttpResponseBase:
        version = self.row(ModelVersion, model_id, "model")
        blob = version.file(name)
        if blob is None:
            raise Missing("There is no such file.")
        return download(request, blob, f"{version.model.name}-v{version.number}-{name}")


def download(request: HttpRequest, blob: Any, filename: str) -> HttpResponseBase:
    asked: Any = SimpleNamespace(headers=request.headers, method=request.method, _request=request)
    return blob_content(asked, blob, filename)


class DeleteModel(Posted, ModelsPage):
    """A version by `ver_…`; a model without versions by `mdl_…`."""

    def post(self, request: HttpRequest, model_id: str) -> HttpResponse:
        if not model_id.startswith(f"{ModelVersion.prefix}_"):
            model = self.row(Model, model_id)

            def remove() -> str:
                remove_container(model, self.actor)
                return self.url("models")

            return self.act(remove, f"Deleted {model.name}.")
        version = self.row(ModelVersion, model_id, "model")

        def work() -> str:
            ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
            check_model_version_unused(version)
            want(version, self.actor, goal=Goal.DELETE)
            audit.record(self.actor, f"{version.kind}.delete", version.typed_id, workspace=self.workspace)
            return self.url("models", version.model.typed_id)

        return self.act(work, f"Deleting {version.name}.")
