"""The example: each stage is begun when the one before has ended well. Its rows reconcile themselves."""

from __future__ import annotations

from typing import Any

from apps.core.errors import Problem
from apps.core.phases import CLEANING, DELETED
from apps.examples import services
from apps.examples.models import Example
from workers.engine import Context, Outcome, Reconciler, Refused, stay

LOOK_SECONDS = 1.0


def training(row: Example, context: Context) -> Outcome:
    run = row.run
    if services.trained(run):
        if row.export_id is None:
            context.record("export", lambda: _begin(lambda: services.export(row)))
        return Outcome("exporting", "Trained", f"{run.label} ended well: {run.message}", after=LOOK_SECONDS)
    return _wait(row, run, "The training run")


def exporting(row: Example, context: Context) -> Outcome:
    export = row.export
    assert export is not None
    if export.phase == "succeeded":
        if row.deployment_id is None:
            context.record("deploy", lambda: _begin(lambda: services.deploy(row)))
        return Outcome("deploying", "Exported", export.message, after=LOOK_SECONDS)
    return _wait(row, export, "The export")


def deploying(row: Example, context: Context) -> Outcome:
    deployment = row.deployment
    assert deployment is not None
    if deployment.phase == "serving":
        return Outcome(CLEANING, "Serving", f"{deployment.name} answers.", ending="succeeded", after=0)
    return _wait(row, deployment, "The deployment")


def cleaning(row: Example, context: Context) -> Outcome:
    """Nothing of its own is left anywhere: its stages stay."""
    return Outcome(row.ending or DELETED, row.reason, row.message)


def _begin(act: Any) -> None:
    """A refusal of a service is the end of the example, in the service's words."""
    try:
        act()
    except Problem as problem:
        raise Refused("StageRefused", problem.detail) from problem


def _wait(row: Example, stage: Any, noun: str) -> Outcome:
    """Look again soon while the stage is at work; end as it ended."""
    if not stage.is_final:
        return stay(row, after=LOOK_SECONDS)
    if stage.phase in {"cancelled", DELETED}:
        word = stage.current_phase.word.lower()
        return Outcome(CLEANING, "StageCancelled", f"{noun} was {word}.", ending="cancelled", after=0)
    raise Refused("StageFailed", f"{noun} ended badly: {stage.message}")


RECONCILER = Reconciler(
    "example", {"training": training, "exporting": exporting, "deploying": deploying, CLEANING: cleaning}
)
