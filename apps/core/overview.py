"""What the overview is made of: the example's stages, what needs somebody, what goes on, what answers, this machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import F, FloatField, Q, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.core import figures, health
from apps.core.models import QUARANTINE_STRIKES
from apps.core.page import Action, KeyValue, Pill, Progress, Replicas
from apps.core.pages import rows
from apps.core.phases import CLEANING, DELETED
from apps.deployments.models import Deployment, UsageWindow
from apps.examples import services as example_services
from apps.examples.models import Example
from apps.exports.models import Export
from apps.placements.models import Reservation
from apps.registry.models import DatasetVersion, ModelVersion
from apps.training.models import TrainingRun

NOTICED = timedelta(days=1)
TRAFFIC = timedelta(minutes=30)
MOST_ROWS = 20
EXPECTED = {"run": "about 1 min", "export": "about 20 s", "deployment": "about 6 s", "prediction": "about 2 ms"}


@dataclass(frozen=True)
class Stage:
    """A step of the example's strip. `action` is there where somebody can do something."""

    name: str
    icon: str
    words: str
    pill: Pill
    foot: str
    url: str = ""
    action: Action | None = None
    progress: Progress | None = None


NOT_STARTED = Pill("off", "Not started")


def stages(root: str, example: Example | None, data: DatasetVersion | None, may_write: bool) -> list[Stage]:
    run, export, deployment = (example.run, example.export, example.deployment) if example else (None, None, None)
    serving = deployment is not None and deployment.phase == "serving"
    again = Action("Try this stage again", f"{root}example", "rotate-ccw", method="post", busy="Starting")

    def stage(key: str, name: str, icon: str, words: str, row: Any) -> Stage:
        failed = row is not None and row.phase in {"failed", "rejected", "cancelled"} and example is not None
        retry = again if failed and may_write and example is not None and example.is_final else None
        return Stage(
            name=name,
            icon=icon,
            words=row.message if row is not None and (failed or not row.is_final) and row.message else words,
            pill=rows.pill(row) if row is not None else NOT_STARTED,
            foot=_took(row) if row is not None else EXPECTED[key],
            url=rows.url(root, row) if row is not None and row.phase != DELETED else "",
            action=retry,
            progress=Progress(row.progress) if row is not None and not row.is_final and row.progress else None,
        )

    return [
        Stage(
            "Dataset",
            "database",
            "scikit-learn's digits, checked and split when Windlass was installed.",
            rows.pill(data) if data else Pill("off", "Deleted"),
            figures.count(data.items, "image") if data and data.items else "",
            rows.url(root, data) if data else "",
        ),
        stage("run", "Training run", "activity", "Data parallel on 2 processes. Live loss, accuracy and log.", run),
        stage("export", "Export", "package", "To ONNX, with a certificate that compares it with the original.", export),
        stage("deployment", "Deployment", "radio-tower", "One replica behind a stable URL.", deployment),
        Stage(
            "Prediction",
            "pen-line",
            "Draw or pick a digit and see the answer, with the call to copy.",
            Pill("ok", "Ready") if serving else NOT_STARTED,
            "" if serving else EXPECTED["prediction"],
            f"{rows.url(root, deployment)}playground/" if serving and deployment else "",
            Action("Draw a digit", f"{rows.url(root, deployment)}playground/", "pen-line", "primary")
            if serving and deployment
            else None,
        ),
    ]


def _took(row: Any) -> str:
    if row.is_final or row.phase == "serving":
        return figures.duration((row.phase_since - row.created_at).total_seconds())
    return f"for {figures.duration((timezone.now() - row.created_at).total_seconds())}"


def example_lead(example: Example | None) -> str:
    """One sentence over the strip while the example runs, and when it has ended."""
    if example is None:
        return ""
    if example.phase == "succeeded" and example.deployment:
        accuracy = (example.run.metrics or {}).get("held_out_accuracy")
        sure = f", right on **{figures.percent(accuracy)}** of images it has never seen" if accuracy is not None else ""
        return f"**Your model answers**{sure}. Draw a digit and see."
    if example.is_final:
        return f"**The example stopped.** {example.message}"
    step = {"training": 1, "exporting": 2, "deploying": 3}.get(example.phase, 3)
    return f"Stage **{step} of 3** is at work. It goes on by itself, also when you leave this page."


# --- what needs somebody ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """What happened to whom, why, and the one thing to do about it."""

    icon: str
    title: str
    words: str
    action: Action


def needs(root: str, workspace: Workspace) -> list[Need]:
    """Failures of the last day and what is stuck or degraded now, the latest first."""
    since = timezone.now() - NOTICED
    found: list[tuple[Any, Need]] = []
    for model, select, extra in (
        (TrainingRun, (), Q()),
        (Export, ("model_version__model",), Q()),
        (DatasetVersion, ("dataset",), Q()),
        (ModelVersion, ("model",), Q()),
        (Deployment, (), Q(phase="degraded")),
    ):
        bad = Q(phase="failed", phase_since__gte=since) | extra
        stuck = Q(strikes__gte=QUARANTINE_STRIKES) & ~Q(phase__in=sorted(model.phases.final))
        chosen: Any = model._default_manager.filter(bad | stuck, workspace=workspace).select_related(*select)
        for row in chosen.order_by("-pk")[:5]:
            found.append((row.phase_since, _need(root, row)))
    return [need for _since, need in sorted(found, key=lambda pair: pair[0], reverse=True)[:5]]


def _need(root: str, row: Any) -> Need:
    word = rows.pill(row).word
    verb = "Open" if row.phase != "failed" else "See what to do"
    return Need(rows.ICONS[row.kind], f"{word}: {rows.label(row)}", row.message, Action(verb, rows.url(root, row)))


# --- in progress, serving -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Something that ends by itself."""

    url: str
    name: str
    kind: str
    pill: Pill
    progress: Progress | None
    words: str
    left: str


def in_progress(root: str, workspace: Workspace) -> list[Work]:
    chosen: list[Any] = []
    for model, select in (
        (TrainingRun, ()),
        (Export, ("model_version__model",)),
        (DatasetVersion, ("dataset",)),
        (ModelVersion, ("model",)),
    ):
        going: Any = model._default_manager.filter(workspace=workspace).exclude(phase__in=sorted(model.phases.final))
        chosen += list(going.select_related(*select).order_by("-pk")[:MOST_ROWS])
    return [_work(root, row) for row in sorted(chosen, key=lambda row: row.created_at, reverse=True)]


def _work(root: str, row: Any) -> Work:
    kinds = {
        "training_run": f"Training, {figures.count(getattr(row, 'processes', 1), 'process', 'processes')}",
        "export": f"Export to {getattr(row, 'format', '').upper()}",
        "dataset_version": "Upload, being checked",
        "model_version": "Upload, being checked",
    }
    return Work(
        url=rows.url(root, row),
        name=rows.label(row),
        kind=kinds[row.kind],
        pill=rows.pill(row),
        progress=Progress(row.progress) if row.progress and row.phase != CLEANING else None,
        words=row.message,
        left=time_left(row),
    )


def time_left(row: Any) -> str:
    """From how fast it went until now; "" where that is not known."""
    started = getattr(row, "started_at", None)
    if not started or not row.progress or not 0.02 < row.progress < 1:
        return ""
    spent = (timezone.now() - started).total_seconds()
    return figures.duration(spent * (1 - row.progress) / row.progress)


@dataclass(frozen=True)
class Serving:
    """A deployment with what was asked of it lately; `calls` says it in words."""

    url: str
    name: str
    revision: str
    pill: Pill
    calls: str
    per_second: float
    p95_ms: float | None
    errors: float | None
    replicas: Replicas


def serving(root: str, workspace: Workspace) -> list[Serving]:
    found = list(
        Deployment.objects.filter(workspace=workspace)
        .exclude(phase__in=[DELETED, "failed"])
        .order_by("name")[:MOST_ROWS]
    )
    traffic = {row["deployment"]: row for row in usage_sums(found)}
    return [serving_row(root, row, traffic.get(row.pk)) for row in found]


def usage_sums(deployments: list[Deployment]) -> Any:
    """One row a deployment, of the last half hour: requests, errors, and p95 weighted by requests."""
    weighted = F("requests") * Cast(KT("latency_ms__p95"), FloatField())
    since = timezone.now() - TRAFFIC
    return (
        UsageWindow.objects.filter(deployment__in=deployments, starts_at__gte=since, latency_ms__has_key="p95")
        .values("deployment")
        .annotate(asked=Sum("requests"), failed=Sum("errors"), weighted=Sum(weighted))
    )


def serving_row(root: str, row: Deployment, traffic: dict[str, Any] | None) -> Serving:
    asked = traffic["asked"] if traffic else 0
    return Serving(
        url=rows.url(root, row),
        name=row.name,
        revision=f"r{row.serving_revision or row.revision}",
        pill=rows.pill(row),
        calls=_calls(asked),
        per_second=asked / TRAFFIC.total_seconds(),
        p95_ms=traffic["weighted"] / asked if traffic and asked and traffic["weighted"] is not None else None,
        errors=traffic["failed"] / asked if traffic and asked else None,
        replicas=replicas(row),
    )


def _calls(asked: int) -> str:
    rate = asked / TRAFFIC.total_seconds()
    if not asked:
        return "no calls"
    return f"{figures.number(rate, 1)}/s" if rate >= 0.1 else figures.count(asked, "call")


def replicas(row: Deployment) -> Replicas:
    if row.phase == "stopped":
        return Replicas("none, stopped", allowed=row.replicas)
    starting = max(0, row.replicas - row.ready_replicas)
    words = f"{row.ready_replicas} of {row.replicas} ready" if starting else f"{row.ready_replicas} ready"
    return Replicas(words, ready=row.ready_replicas, starting=starting)


# --- this machine -------------------------------------------------------------------------------------------------


def machine(hosts: list[Host]) -> tuple[Pill, list[KeyValue]]:
    """What this installation runs on, and whether its parts answer."""
    parts = health.services(hosts)
    silent = [part.name for part in parts if not part.well]
    answering = ", ".join(part.name for part in parts)
    words = f"{answering}: all answering" if not silent else f"not answering: {', '.join(silent)}"
    pill = Pill("ok", "Healthy") if not silent else Pill("warn", "Needs a look")
    if not hosts:
        return Pill("warn", "No worker"), [KeyValue("Services", words)]
    host = hosts[0]
    held = Reservation.objects.filter(place__host=host).aggregate(cpus=Sum("cpus"), memory=Sum("memory_bytes"))
    free_cpus, free_memory = host.cpus - (held["cpus"] or 0), host.memory_bytes - (held["memory"] or 0)
    return pill, [
        KeyValue("Processors", f"{figures.number(host.cpus)} cores, {figures.number(round(free_cpus, 2))} free"),
        KeyValue("Memory", f"{figures.memory(host.memory_bytes)}, {figures.memory(free_memory)} free"),
        KeyValue(
            "Disk for artifacts",
            f"{figures.file_size(host.disk_free_bytes)} free" if host.disk_free_bytes else "not known yet",
        ),
        KeyValue("User code", host.isolation or "not known yet"),
        KeyValue("Services", words),
        KeyValue("Last sweep", figures.ago(host.swept_at)),
    ]


def counts(workspace: Workspace) -> tuple[int, Example | None, DatasetVersion | None]:
    """How many runs there ever were, the latest example, and its dataset."""
    return (
        TrainingRun.objects.filter(workspace=workspace).count(),
        example_services.latest(workspace),
        example_services.dataset(workspace),
    )
