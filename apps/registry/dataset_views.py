"""Pages of datasets: the list, an upload, and one dataset with samples of its newest version."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, OuterRef, Prefetch, Q, Subquery
from django.http import HttpRequest, HttpResponse

from apps.accounts import audit
from apps.core import figures
from apps.core.checks import find, whole
from apps.core.errors import Conflict, Invalid, Missing
from apps.core.figures import number, short_id
from apps.core.models import Goal
from apps.core.page import Action, Bar, CodeTab, Crumb, EmptyState, KeyValue, Page, Progress, Tab, bold
from apps.core.pages import rows
from apps.core.pages.base import Posted, WorkspacePage, add_errors
from apps.core.phases import DELETED
from apps.core.views import picture_items
from apps.core.wants import want
from apps.registry import blobs
from apps.registry.forms import DatasetForm
from apps.registry.models import Dataset, DatasetVersion
from apps.registry.samples import samples
from apps.registry.services import (
    check_dataset_version_unused,
    create_dataset,
    create_dataset_version,
    dataset_option_errors,
    remove_container,
)
from apps.training.models import TrainingRun

SHOWN = 50
OPTION_FIELDS = {"options.held_out_fraction": "held_out_percent"}


class DatasetsPage(WorkspacePage):
    section = "datasets"


def _newest() -> Any:
    live = DatasetVersion.objects.exclude(phase=DELETED).select_related("dataset").order_by("-number")
    return Prefetch("versions", live, to_attr="live_versions")


class Datasets(DatasetsPage):
    """What data do I have, and is it sound?"""

    def get(self, request: HttpRequest) -> HttpResponse:
        runs = (
            TrainingRun.objects.filter(dataset_version__dataset=OuterRef("pk"))
            .exclude(phase=DELETED)
            .order_by()
            .values("dataset_version__dataset")
            .annotate(number=Count("pk"))
            .values("number")
        )
        found = Dataset.objects.filter(workspace=self.workspace).order_by("name").annotate(runs=Subquery(runs))
        datasets: list[Any] = list(found.prefetch_related(_newest())[:500])
        new = [Action("New dataset", self.url("datasets", "new"), "upload", "primary")] if self.may_write else []
        lines = [(item, *self.line(item)) for item in datasets]
        return self.page(
            "registry/datasets.html",
            Page(
                "Datasets",
                "What runs learn from. Each upload is checked before anything may learn from it.",
                actions=new,
            ),
            lines=lines,
            empty=EmptyState(
                "No datasets yet",
                "A dataset is what a run learns from. Upload one: npz, zip, CSV, Parquet or JSON Lines.",
                new,
            ),
        )

    def line(self, dataset: Any) -> tuple[str, Any, Any]:
        newest = dataset.live_versions[0] if dataset.live_versions else None
        return self.url("datasets", dataset.typed_id), newest, rows.pill(newest) if newest else None


class NewDataset(DatasetsPage):
    """`?of=dat_…` uploads a new version of a dataset."""

    reads = "developer"

    def of(self) -> Dataset | None:
        typed = self.request.GET.get("of", "")
        return find(Dataset, self.workspace, typed) if typed else None

    def get(self, request: HttpRequest) -> HttpResponse:
        of = self.of()
        return self.form_page(DatasetForm(fixed_name=of.name if of else ""), of)

    def form_page(self, form: DatasetForm, of: Dataset | None, status: int = 200) -> HttpResponse:
        title = f"New version of {of.name}" if of else "New dataset"
        page = Page(
            title,
            "Upload a file. It is checked first, and what can't be read is told by row.",
            breadcrumbs=[Crumb("Datasets", self.url("datasets")), Crumb(title)],
        )
        return self.page("registry/upload.html", page, status, form=form, button="Upload and check", dataset=True)

    def post(self, request: HttpRequest) -> HttpResponse:
        of = self.of()
        form = DatasetForm(request.POST, request.FILES, fixed_name=of.name if of else "")
        if not form.is_valid():
            return self.form_page(form, of, 422)
        file = form.cleaned_data["file"]
        try:
            if errors := dataset_option_errors(form.options()):
                raise Invalid(*errors)  # before the bytes are stored
            blob = blobs.store_stream(self.workspace, file.chunks())

            def work() -> str:
                dataset = of or create_dataset(self.workspace, self.actor, name=form.cleaned_data["name"])
                create_dataset_version(dataset, self.actor, blob=blob, filename=file.name, options=form.options())
                return self.url("datasets", dataset.typed_id)

            return self.act(work, f"{file.name} is uploaded and being checked.")
        except (Invalid, Conflict) as refusal:
            add_errors(form, refusal, OPTION_FIELDS)
        except blobs.StorageFull as full:
            form.add_error("file", str(full))
        return self.form_page(form, of, 422)


class DatasetPage(DatasetsPage):
    """Is it sound? `dat_…` shows the newest version, `dsv_…` that one."""

    tabs = ("", "versions", "runs", "events")

    def get(self, request: HttpRequest, dataset_id: str, tab: str = "") -> HttpResponse:
        if tab not in self.tabs:
            raise Missing("There is no such page of a dataset.")
        dataset, version = self.found(dataset_id)
        versions = list(
            DatasetVersion.objects.filter(dataset=dataset)
            .exclude(phase=DELETED)
            .select_related("dataset")
            .order_by("-number")
        )
        version = version or (versions[0] if versions else None)
        if version is None:
            return self.empty(dataset)
        runs = list(
            TrainingRun.objects.filter(dataset_version__dataset=dataset, workspace=self.workspace)
            .exclude(phase=DELETED)
            .select_related("result", "model")
            .order_by("-pk")[:100]
        )
        address = rows.url(self.root, version)
        split = "held_out" if request.GET.get("split") == "held_out" else "train"
        offset = request.GET.get("offset", "0")
        return self.page(
            "registry/dataset.html",
            self.head(dataset, version, tab, len(versions), len(runs)),
            tab=tab,
            dataset_version=version,
            live=rows.live(version),
            report=version.report,
            checking=Progress(None, version.message or "Being checked") if not version.is_final else None,
            shown=self.samples(version, split, whole(offset) or 0) if tab == "" else None,
            bars=class_bars(version.report),
            facts=facts(dataset, version),
            code=SCRIPT,
            best=best(runs),
            versions=[(item, rows.url(self.root, item), rows.pill(item)) for item in versions],
            runs=[(run, rows.url(self.root, run), rows.pill(run)) for run in runs],
            events=rows.lines(self.root, rows.events_of(version)) if tab == "events" else [],
            again=f"{self.url('datasets', 'new')}?of={dataset.typed_id}",
            dialog=rows.delete_dialog(
                version,
                address,
                goes=[("Its files, as uploaded and as prepared", "")],
                stays=["Runs that learned from it"],
            ),
        )

    def found(self, typed: str) -> tuple[Dataset, DatasetVersion | None]:
        if typed.startswith(f"{DatasetVersion.prefix}_"):
            version = self.row(DatasetVersion, typed, "dataset", "prepared", "upload", "workspace")
            return version.dataset, version
        dataset = self.row(Dataset, typed)
        newest = DatasetVersion.objects.filter(dataset=dataset).exclude(phase=DELETED)
        return dataset, newest.select_related("dataset", "prepared", "upload").order_by("-number").first()

    def empty(self, dataset: Dataset) -> HttpResponse:
        page = Page(dataset.name, "It has no version any more.", breadcrumbs=self.trail(dataset))
        new = f"{self.url('datasets', 'new')}?of={dataset.typed_id}"
        actions = [Action("Upload a version", new, "upload", "primary")] if self.may_write else []
        if self.may_write:
            address = f"{self.url('datasets', dataset.typed_id)}delete"
            actions.append(Action("Delete dataset", address, "trash-2", "danger", "post", busy="Deleting"))
        empty = EmptyState("No versions", "Every version of this dataset was deleted.", actions)
        return self.page("registry/empty.html", page, empty=empty)

    def trail(self, dataset: Dataset) -> list[Crumb]:
        return [Crumb("Datasets", self.url("datasets")), Crumb(dataset.name)]

    def head(self, dataset: Dataset, version: DatasetVersion, tab: str, versions: int, runs: int) -> Page:
        address = rows.url(self.root, version)
        names = (
            ("", "Overview", None),
            ("versions", "Versions", versions),
            ("runs", "Used by", runs),
            ("events", "Events", None),
        )
        actions = []
        if self.may_write:
            actions.append(Action("New version", f"{self.url('datasets', 'new')}?of={dataset.typed_id}", "upload"))
            if version.phase == "ready":
                train = f"{self.url('training', 'new')}?dataset_version={version.typed_id}"
                actions.append(Action("Train on this", train, "activity", "primary"))
            if version.is_final:
                actions += rows.delete_action(True)
        shape = version.report.get("shape") or []
        kind = version.report.get("kind", "")
        size = " × ".join(str(side) for side in shape) + (" columns" if kind == "table" else "")
        tags = [f"{kind}, {size}" if shape else kind] if kind else []
        return Page(
            f"{dataset.name} v{version.number}" if versions > 1 else dataset.name,
            bold(lead(version)),
            rows.pill(version),
            tags=tags,
            breadcrumbs=self.trail(dataset),
            tabs=[Tab(label, f"{address}{name}/" if name else address, name == tab, n) for name, label, n in names],
            actions=actions,
            state=rows.pill(version).word if version.phase != "ready" else "",
            live=rows.live(version),
        )

    def samples(self, version: DatasetVersion, split: str, offset: int) -> dict[str, Any] | None:
        if version.prepared is None:
            return None
        found = samples(version, split=split, offset=offset, limit=SHOWN)
        total = found["total"]
        return {
            "split": split,
            "pictures": picture_items(found),
            "items": [(item["class"], _shown(item)) for item in found["items"]],
            "columns": found["dataset"].get("feature_names") or [],
            "next": f"?split={split}&offset={(offset + SHOWN) % max(1, total)}" if total > SHOWN else "",
            "total": total,
        }


def _shown(item: dict[str, Any]) -> Any:
    if "text" in item:
        return [item["text"][:300]]
    values = item["features"]
    return [number(value) if isinstance(value, int | float) else str(value)[:40] for value in values[:12]]


def lead(version: DatasetVersion) -> str:
    if version.phase == "ready":
        head, dot, rest = (version.report.get("message") or version.message or "Checked.").partition(". ")
        return f"**{head}{'.' if dot else ''}** {rest}".strip()
    if version.phase == "failed":
        return f"**It can't be used.** {version.message}"[:400]
    return version.message or "It is checked next."


def class_bars(report: dict[str, Any]) -> list[Bar]:
    counts = report.get("class_counts") or {}
    largest = max(counts.values(), default=0)
    shown = sorted(counts.items(), key=lambda pair: -pair[1])[:40] if len(counts) > 40 else counts.items()
    return [Bar(str(name)[:60], found / largest if largest else 0, number(found), best=True) for name, found in shown]


def facts(dataset: Dataset, version: DatasetVersion) -> list[KeyValue]:
    report, upload = version.report, version.upload
    split = report.get("split") or {}
    splits = report.get("splits") or {}
    found = [
        KeyValue("Id", short_id(version.typed_id), mono=True, copy=True, full=version.typed_id),
        KeyValue("File", f"{version.filename}, {figures.file_size(upload.size_bytes) if upload else 'removed'}"),
    ]
    if upload and upload.sha256:
        digest = figures.short_digest(upload.sha256)
        found.append(KeyValue("Checksum", f"sha256 {digest}", mono=True, copy=True, full=upload.sha256))
    if splits:
        words = f"{number(splits.get('train'))} for training, {number(splits.get('held_out'))} held out"
        found.append(KeyValue("Split", words))
    if split.get("seed") is not None:
        found.append(KeyValue("Split by", f"{split.get('origin', 'chance')}, seed {split['seed']}"))
    if report.get("seconds") is not None:
        found.append(KeyValue("Checked in", figures.duration(report["seconds"])))
    if dataset.description:
        found.append(KeyValue("About", dataset.description))
    return found


def best(runs: list[TrainingRun]) -> list[TrainingRun]:
    judged = [run for run in runs if (run.metrics or {}).get("held_out_accuracy") is not None]
    return sorted(judged, key=lambda run: -run.metrics["held_out_accuracy"])[:3]


SCRIPT = [
    CodeTab(
        "Python",
        "import json, os, pathlib\nimport numpy as np\n\n"
        'data = pathlib.Path(os.environ["WINDLASS_DATA"])\n'
        'facts = json.loads((data / "dataset.json").read_text())\n'
        'features = np.load(data / "features.npy")\n'
        'labels = np.load(data / "labels.npy")\n'
        'training = np.load(data / "split.npy") == 0',
        "python",
    )
]


class DeleteDataset(Posted, DatasetsPage):
    """A version by `dsv_…`; a dataset without versions by `dat_…`."""

    def post(self, request: HttpRequest, dataset_id: str) -> HttpResponse:
        if not dataset_id.startswith(f"{DatasetVersion.prefix}_"):
            dataset = self.row(Dataset, dataset_id)

            def remove() -> str:
                remove_container(dataset, self.actor)
                return self.url("datasets")

            return self.act(remove, f"Deleted {dataset.name}.")
        version = self.row(DatasetVersion, dataset_id, "dataset")

        def work() -> str:
            DatasetVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
            check_dataset_version_unused(version)
            want(version, self.actor, goal=Goal.DELETE)
            audit.record(self.actor, f"{version.kind}.delete", version.typed_id, workspace=self.workspace)
            others = DatasetVersion.objects.filter(~Q(pk=version.pk), dataset=version.dataset).exclude(phase=DELETED)
            return self.url("datasets", version.dataset.typed_id) if others.exists() else self.url("datasets")

        return self.act(work, f"Deleting {version.name}.")
