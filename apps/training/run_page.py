"""What the page of one training run shows: its sentence, figures, facts, and what can be done when it failed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.safestring import SafeString

from apps.core import figures
from apps.core.figures import count, duration, number, percent, short_id
from apps.core.overview import time_left
from apps.core.page import Action, Chart, CodeTab, KeyValue, Progress, Stat, bold
from apps.core.pages import rows
from apps.training.hyperparameters import RECIPES, parameters
from apps.training.models import TrainingRun

BEST_FIGURE = "held_out_accuracy"
FAR_LEARNING_RATE = 10


def lead(run: TrainingRun) -> SafeString:
    accuracy = run.metrics.get(BEST_FIGURE)
    if run.phase == "succeeded":
        how_good = f"**{percent(accuracy)}** on held-out data after " if accuracy is not None else "Done after "
        took = f", {duration(seconds(run))}" if run.started_at else ""
        made = f" It made **v{run.result.number}**." if run.result else " It left no model."
        return bold(f"{how_good}{number(run.step)} steps{took}.{made}")
    if run.phase == "failed":
        kept = "Its last checkpoint is kept. " if run.checkpoint_id else ""
        return bold(f"**{failure_title(run)[0]}** {kept}Nothing of it runs any more.")
    if run.phase == "training" and run.total_steps:
        good = f" Held-out accuracy **{percent(accuracy)}**." if accuracy is not None else ""
        left = time_left(run)
        rest = f" About **{left}** left." if left else ""
        return bold(f"Step **{number(run.step)} of {number(run.total_steps)}**.{good}{rest}")
    return bold(run.message[:200] or "Waiting for a place to run.")


def seconds(run: TrainingRun) -> float | None:
    if run.started_at is None:
        return None
    ended = run.ended_at or (run.phase_since if run.is_final else timezone.now())
    return (ended - run.started_at).total_seconds()


def progress(run: TrainingRun) -> Progress | None:
    if run.is_final:
        return None
    if run.progress is None:
        return Progress(None, run.message or "Waiting for a place to run")
    return Progress(run.progress, large=True)


def stats(run: TrainingRun) -> list[Stat]:
    """Figures that are known, each with what it means."""
    metrics, found = run.metrics, []
    if (loss := metrics.get("loss")) is not None:
        found.append(Stat("Training loss", number(loss), f"at step {number(run.step)}"))
    if (accuracy := metrics.get(BEST_FIGURE)) is not None:
        other = metrics.get("held_out_loss")
        context = f"held-out loss {number(other)}" if other is not None else "on items it never learned from"
        found.append(Stat("Held-out accuracy", percent(accuracy), context))
    if (speed := metrics.get("items_per_second")) is not None:
        found.append(Stat("Items a second", number(round(speed)), f"{number(round(speed / run.processes))} a process"))
    if run.total_steps:
        left = time_left(run)
        words = f"about {left} left" if left else f"of {number(run.total_steps)}"
        found.append(Stat("Steps", number(run.step), words))
    if run.started_at:
        limit = f"stops at {duration(run.deadline_seconds)}"
        found.append(
            Stat(
                "Time",
                duration(seconds(run)),
                limit if not run.is_final else f"limit was {duration(run.deadline_seconds)}",
            )
        )
    return found


def facts(run: TrainingRun, root: str) -> list[KeyValue]:
    version = run.dataset_version
    items = f", {count(version.items, 'item')}" if version and version.items else ""
    recipe = RECIPES[run.recipe].title if run.recipe in RECIPES else run.script_name
    return [
        KeyValue("Id", short_id(run.typed_id), mono=True, copy=True, full=run.typed_id),
        KeyValue("Recipe" if run.recipe else "Script", recipe),
        *([KeyValue("Dataset", f"{version.name}{items}", rows.url(root, version))] if version else []),
        KeyValue("Model", run.model.name, f"{root}models/{run.model.typed_id}/"),
        KeyValue("Strategy", run.strategy.replace("_", " ")),
        KeyValue("Processes", number(run.processes) + (f" on {number(run.nodes)} nodes" if run.nodes > 1 else "")),
        *([KeyValue("Place", run.place.name)] if run.place else []),
        KeyValue("Memory", f"{figures.memory(run.memory_bytes_per_process)} a process"),
        *([KeyValue("Attempts", number(run.attempt))] if run.attempt > 1 else []),
        KeyValue("Seed", number(run.hyperparameters.get("seed", 0))),
    ]


def settings_rows(run: TrainingRun) -> list[tuple[str, str]]:
    return [(name, "none" if value is None else str(value)) for name, value in sorted(run.hyperparameters.items())]


def charts(run: TrainingRun, address: str, names: set[str]) -> list[Chart]:
    """Loss always; accuracy and the gradient's norm where the run writes them."""
    live = rows.live(run)
    found = [Chart("loss", "Loss", f"{address}chart/loss", "by step", live=live)]
    if BEST_FIGURE in names or run.recipe:
        found.append(Chart("accuracy", "Held-out accuracy", f"{address}chart/accuracy", "by step", live=live))
    if run.phase == "failed" and "grad_norm" in names:
        found.append(Chart("gradient", "Gradient norm", f"{address}chart/gradient", "by step", "log scale", live=live))
    return found


@dataclass(frozen=True)
class Way:
    """Something to do about a failure."""

    words: str
    second: str
    action: Action


def ways(run: TrainingRun, address: str, root: str, may_write: bool) -> list[Way]:
    """Two or three ways on, the recommended one first."""
    clone = f"{root}training/new/?clone={run.typed_id}"
    found = []
    if may_write:
        rate, usual = run.hyperparameters.get("learning_rate"), _usual_rate(run)
        if run.reason == "Diverged" and rate and usual and rate >= usual * FAR_LEARNING_RATE:
            words = f"Start again with learning rate {usual:g}, the recipe's own"
            better = f"{clone}&learning_rate={usual:g}"
            found.append(Way(words, f"recommended; yours was {rate:g}", Action("Start with this", better)))
        found.append(Way("Clone the run and change anything", "starts at step 0", Action("Clone", clone, "copy")))
    found.append(Way("Look at the log", "its last lines are below", Action("Open log", f"{address}logs/")))
    return found


def _usual_rate(run: TrainingRun) -> float | None:
    recipe = RECIPES.get(run.recipe)
    rate = recipe.defaults.get("learning_rate") if recipe else None
    return float(rate) if isinstance(rate, int | float) else None


def failure_title(run: TrainingRun) -> tuple[str, str]:
    """The first sentence, and the rest."""
    head, dot, rest = run.message.partition(". ")
    return (f"{head}." if dot else head) or rows.words(run.reason), rest


def bug_report(run: TrainingRun) -> str:
    return f"Run {run.typed_id}, reason {run.reason}, attempt {run.attempt}, step {run.step}: {run.message}"


def changed_settings(run: TrainingRun) -> dict[str, Any]:
    """Those that differ from the recipe's own."""
    usual = {item.name: item.default for item in parameters(run.recipe)} if run.recipe in RECIPES else {}
    return {name: value for name, value in run.hyperparameters.items() if name not in usual or usual[name] != value}


def same_as(run: TrainingRun, slug: str) -> list[CodeTab]:
    """The call that makes this run again."""
    body: dict[str, Any] = {
        "model": run.model.name,
        "recipe": run.recipe,
        "dataset_version": run.dataset_version.typed_id if run.dataset_version else None,
        "processes": run.processes,
        **({"nodes": run.nodes} if run.nodes > 1 else {}),
        **({"place": run.place.typed_id} if run.place else {}),
        "hyperparameters": changed_settings(run),
    }
    text = json.dumps(body)
    url = f"{settings.WINDLASS_PUBLIC_URL}/api/v1/workspaces/{slug}/training-runs"
    headers = "-H \"Authorization: Bearer $WINDLASS_KEY\" \\\n  -H 'Content-Type: application/json'"
    curl = f"curl -s {url} \\\n  {headers} \\\n  -d '{text}'"
    return [CodeTab("curl", curl)]
