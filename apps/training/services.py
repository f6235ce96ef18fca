"""Starting training runs, and reading what they measured."""

from __future__ import annotations

import json
import math
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from apps.accounts.models import Workspace
from apps.accounts.services import check_secrets
from apps.clusters.models import Host
from apps.core.actor import Actor
from apps.core.checks import name_errors, next_number, range_errors
from apps.core.errors import FieldError, Invalid
from apps.core.wants import create
from apps.placements.models import Place
from apps.registry.models import Blob, DatasetVersion, Model
from apps.registry.services import hold
from apps.training.hyperparameters import RECIPES, complete, validate
from apps.training.models import TrainingRun

STRATEGIES = ("data_parallel",)
MOST_PROCESSES = 64
MOST_NODES = 64
MIB = 1024**2
LARGEST_HYPERPARAMETERS_BYTES = 64 * 1024
LARGEST_SCRIPT_BYTES = 4 * MIB


def create_training_run(
    workspace: Workspace,
    actor: Actor,
    *,
    model: Model,
    name: str = "",
    recipe: str = "",
    script: Blob | None = None,
    script_name: str = "",
    dataset_version: DatasetVersion | None = None,
    strategy: str = "data_parallel",
    processes: int = 1,
    nodes: int = 1,
    place: Place | None = None,
    hyperparameters: dict[str, Any] | None = None,
    secrets: list[str] | None = None,
    memory_bytes_per_process: int = 1536 * MIB,
    deadline_seconds: int = 3 * 3600,
) -> TrainingRun:
    """Want a model trained, by a `recipe` or a `script`. `name`: that of the model if empty.

    `processes` are shared out evenly to `nodes`, which stand on as many hosts or on one cluster; `place`: there alone.
    All relations are of `workspace`, and `place` is one that it may use. Raises Invalid with every value that can't be
    used, Conflict where the dataset is being deleted.
    """
    run = TrainingRun(
        workspace=workspace,
        name=name or model.name,
        recipe=recipe,
        script=script,
        script_name=script_name or ("script.py" if script else ""),
        dataset_version=dataset_version,
        model=model,
        strategy=strategy,
        processes=processes,
        nodes=nodes,
        place=place,
        hyperparameters=hyperparameters or {},
        secrets=secrets or [],
        memory_bytes_per_process=memory_bytes_per_process,
        deadline_seconds=deadline_seconds,
    )
    errors = [*name_errors("name", run.name), *_size_errors(run), *_program_errors(run)]
    if errors:
        raise Invalid(*errors)
    check_secrets(workspace, run.secrets)
    if recipe:
        run.hyperparameters = {
            key: value for key, value in complete({**run.hyperparameters, "recipe": recipe}).items() if key != "recipe"
        }
    with transaction.atomic():
        if dataset_version is not None:
            hold(dataset_version)
        same = TrainingRun.objects.filter(workspace=workspace, name=run.name)
        run.number = next_number(same, f"runs|{workspace.pk}|{run.name}")
        return create(run, actor, message="Waits for a place to run.")


def _size_errors(run: TrainingRun) -> list[FieldError]:
    errors = [
        *range_errors("processes", run.processes, 1, MOST_PROCESSES),
        *_node_errors(run),
        *range_errors("memory_bytes_per_process", run.memory_bytes_per_process, 256 * MIB, 1024**4, "bytes"),
        *range_errors("deadline_seconds", run.deadline_seconds, 10, 30 * 86400, "seconds"),
    ]
    if run.strategy not in STRATEGIES:
        fix = f"Use one of: {', '.join(STRATEGIES)}."
        errors.append(FieldError("strategy", f"“{run.strategy[:40]}” is no strategy.", fix))
    if not isinstance(run.secrets, list) or not all(isinstance(name, str) for name in run.secrets):
        errors.append(FieldError("secrets", "It must be a list of names of secrets.", '["hub-token"] would work.'))
    return errors


def _node_errors(run: TrainingRun) -> list[FieldError]:
    if errors := range_errors("nodes", run.nodes, 1, MOST_NODES):
        return errors
    if run.processes >= 1 and run.processes % run.nodes:
        more = -(-run.processes // run.nodes) * run.nodes
        fix = f"Use {more} processes, or another number of nodes."
        detail = f"{run.processes} processes can't be shared out evenly to {run.nodes} nodes."
        return [FieldError("nodes", detail, fix)]
    if run.nodes > 1 and run.place is not None and run.place.host is not None:
        detail = f"{run.place.name} is one host, and {run.nodes} nodes stand on as many."
        return [FieldError("place", detail, "Leave place out, name a cluster, or use 1 node.")]
    return []


def _program_errors(run: TrainingRun) -> list[FieldError]:
    if bool(run.recipe) == bool(run.script):
        fix = f"Send a recipe ({', '.join(sorted(RECIPES))}) or a script."
        return [FieldError("recipe", "A run needs a recipe or a script, and not both.", fix)]
    if run.script is not None:
        return _script_errors(run, run.script)
    return _recipe_errors(run)


def _script_errors(run: TrainingRun, script: Blob) -> list[FieldError]:
    errors = []
    if script.state != Blob.State.READY:
        errors.append(FieldError("script", f"{script.typed_id} is not uploaded completely.", "Send what is missing."))
    if (script.size_bytes or 0) > LARGEST_SCRIPT_BYTES:
        errors.append(FieldError("script", "A script has at most 4 MiB.", "Send data as a dataset."))
    errors += _cage_errors(run)
    try:
        size = len(json.dumps(run.hyperparameters, allow_nan=False))
    except ValueError:
        size = LARGEST_HYPERPARAMETERS_BYTES + 1
    if not isinstance(run.hyperparameters, dict) or size > LARGEST_HYPERPARAMETERS_BYTES:
        detail = "The hyperparameters of a script are a JSON object of at most 64 KiB, without NaN."
        errors.append(FieldError("hyperparameters", detail, '{"learning_rate": 0.001} would work.'))
    if run.dataset_version is not None:
        errors += _dataset_errors(run.dataset_version)
    return errors


def _cage_errors(run: TrainingRun) -> list[FieldError]:
    """A script of a user's own runs only where it is kept apart, and reaches nobody from there."""
    place = run.place
    if place is not None and place.host is None:
        detail = f"{place.name} can't keep uploaded scripts apart from its other pods."
        return [FieldError("place", detail, "Leave place out, or use a recipe.")]
    if run.nodes > 1:
        return [FieldError("nodes", "A script is kept apart, so that its nodes could not meet.", "Use 1 node.")]
    hosts = [place.host] if place is not None and place.host else list(Host.objects.filter(lost_at=None))
    if not hosts or any(host.caged for host in hosts) or settings.WINDLASS_ALLOW_UNCAGED_SCRIPTS:
        return []
    detail = hosts[0].isolation or "No host here can keep a script apart from other data."
    return [FieldError("script", detail, "Until then, use a recipe.")]


def _recipe_errors(run: TrainingRun) -> list[FieldError]:
    version = run.dataset_version
    errors = _dataset_errors(version) if version else []
    if version is None:
        errors.append(FieldError("dataset_version", "A recipe learns from a dataset.", "Send the id of a version."))
    ready = version is not None and not errors
    report = version.report if version is not None and ready else {}
    given = {**run.hyperparameters, "recipe": run.recipe}
    for problem in validate(given, max(1, run.processes), report.get("splits", {}).get("train")):
        field = "recipe" if problem.field == "recipe" else f"hyperparameters.{problem.field}"
        errors.append(FieldError.of(field, problem.message))
    kind = report.get("kind")
    if kind and run.recipe in RECIPES and RECIPES[run.recipe].dataset_kind != kind:
        fitting = [recipe.name for recipe in RECIPES.values() if recipe.dataset_kind == kind]
        fix = f"Use {' or '.join(fitting)}." if fitting else "Use a script, no recipe learns from it yet."
        detail = f"{run.recipe} learns from a dataset of kind {RECIPES[run.recipe].dataset_kind}; this one is {kind}."
        errors.append(FieldError("recipe", detail, fix))
    return errors


def _dataset_errors(version: DatasetVersion) -> list[FieldError]:
    if version.phase == "ready":
        return []
    detail = f"{version.name} is not ready: {version.current_phase.word.lower()}."
    fix = "Upload it again." if version.is_final else "Wait until it was checked."
    return [FieldError("dataset_version", f"{detail} {version.message}".strip(), fix)]


# --- metrics ------------------------------------------------------------------------------------------------------

POINTS_SQL = """
WITH bounds AS (
  SELECT name, min(step) AS low, max(step) AS high, count(*) AS points FROM training_metricpoint
  WHERE run_id = %(run)s AND step > %(since)s AND (%(names)s::text[] IS NULL OR name = ANY(%(names)s))
  GROUP BY name)
SELECT p.name, max(p.step), avg(p.value), min(p.value), max(p.value), max(p.at)
FROM training_metricpoint p JOIN bounds b ON p.name = b.name
WHERE p.run_id = %(run)s AND p.step > %(since)s
GROUP BY p.name, CASE WHEN b.points <= %(most)s THEN p.step
                      ELSE floor((p.step - b.low) * %(most)s::numeric / (b.high - b.low + 1)) END
ORDER BY p.name, max(p.step)"""


def metric_series(
    run: TrainingRun, *, names: list[str] | None = None, since_step: int = -1, max_points: int = 500
) -> dict[str, dict[str, list[Any]]]:
    """By metric: steps, values, minimum, maximum, times (unix seconds), each at most `max_points` long.

    Of more points, neighbours are put together: the mean, with the lowest and highest so that no spike is lost.
    """
    series: dict[str, dict[str, list[Any]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(POINTS_SQL, {"run": run.pk, "since": since_step, "names": names or None, "most": max_points})
        for name, step, mean, low, high, at in cursor.fetchall():
            lists = series.setdefault(name, {"steps": [], "values": [], "minimum": [], "maximum": [], "times": []})
            row = (step, finite(mean), finite(low), finite(high), at.timestamp())
            for values, value in zip(lists.values(), row, strict=True):
                values.append(value)
    return series


def finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None
