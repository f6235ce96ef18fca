"""What the environment says: where things are, and the hyperparameters."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.training.hyperparameters import Problem, complete, validate
from workers.training.failure import Failure


@dataclass(frozen=True)
class Settings:
    """`metrics` is None where nobody asked for metrics; `carried_in` may hold a checkpoint to go on from."""

    data: Path
    out: Path
    carried_in: Path | None
    metrics: Path | None
    hyperparameters: dict[str, Any]


def out_directory() -> Path:
    """Raises SystemExit outside a workload: without it there is no place to write even a failure to."""
    if not (out := os.environ.get("WINDLASS_OUT")):
        raise SystemExit("WINDLASS_OUT is not set. Set it to a folder for what the training writes, such as ./out.")
    return Path(out)


def read_settings(processes: int) -> Settings:
    """Raises Failure."""
    if not (data := os.environ.get("WINDLASS_DATA")):
        raise Failure("Dataset", "WINDLASS_DATA is not set: the run has no dataset. Choose one in a clone of the run.")
    metrics = os.environ.get("WINDLASS_METRICS")
    carried_in = os.environ.get("WINDLASS_IN")
    return Settings(
        data=Path(data),
        out=out_directory(),
        carried_in=Path(carried_in) if carried_in else None,
        metrics=Path(metrics) if metrics else None,
        hyperparameters=read_hyperparameters(processes),
    )


def read_hyperparameters(processes: int) -> dict[str, Any]:
    """Complete and valid for this number of processes. Raises Failure."""
    try:
        given = json.loads(os.environ.get("WINDLASS_HYPERPARAMETERS", ""))
    except ValueError:
        given = None
    if not isinstance(given, dict):
        example = '{"recipe": "image_classifier"}'
        raise Failure("Hyperparameter", f"WINDLASS_HYPERPARAMETERS is not a JSON object. Use one such as {example}.")
    refuse(validate(given, processes))
    return complete(given)


def refuse(problems: list[Problem]) -> None:
    """Raises Failure for the first problem, with the messages of all."""
    if problems:
        raise Failure(problems[0].code, " ".join(problem.message for problem in problems))
