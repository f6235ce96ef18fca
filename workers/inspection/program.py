"""What a program knows of the directory it runs in: inputs, outputs, hyperparameters, progress and how to fail well."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Refused(Exception):
    """The program ends for a reason it understands: a CamelCase code, and a message that a person can act on."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


@dataclass
class Program:
    """`inputs` and `outputs` are the workload's `in/` and `out/`; `scratch` goes when the workload goes."""

    inputs: Path
    outputs: Path
    scratch: Path
    metrics: Path | None
    hyperparameters: dict[str, Any]

    @classmethod
    def from_environment(cls) -> Program:
        """Raises Refused for hyperparameters that are no JSON object."""
        try:
            hyperparameters = json.loads(os.environ.get("WINDLASS_HYPERPARAMETERS") or "{}")
        except ValueError:
            hyperparameters = None
        if not isinstance(hyperparameters, dict):
            raise Refused("BadHyperparameters", 'The hyperparameters must be a JSON object, such as {"seed": 7}.')
        outputs = Path(os.environ["WINDLASS_OUT"])
        metrics = os.environ.get("WINDLASS_METRICS")
        return cls(
            inputs=Path(os.environ["WINDLASS_IN"]),
            outputs=outputs,
            scratch=Path(os.environ.get("TMPDIR") or outputs),
            metrics=Path(metrics) if metrics else None,
            hyperparameters=hyperparameters,
        )

    def progress(self, step: int, total_steps: int, **figures: float) -> None:
        """Appends one metrics line: how many of the steps are done, and the figures known by now."""
        if self.metrics:
            line = {"step": step, "total_steps": total_steps, "time": time.time(), **figures}
            with self.metrics.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def write_json(self, name: str, content: Any) -> None:
        """Writes `out/<name>` whole or not at all. NaN is refused: readers of JSON elsewhere would choke on it."""
        unfinished = self.outputs / f".{name}"
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))
        unfinished.replace(self.outputs / name)


def say(text: str) -> None:
    """One line for the log, at once."""
    print(text, flush=True)


def run(main: Callable[[Program], None]) -> int:
    """Runs `main` and gives the exit status. A bug leaves its trace in the log and no failure.json."""
    try:
        main(Program.from_environment())
    except Refused as refused:
        Path(os.environ["WINDLASS_OUT"], "failure.json").write_text(
            json.dumps({"failure": refused.failure, "message": refused.message}, ensure_ascii=False)
        )
        print(refused.message, file=sys.stderr, flush=True)
        return 1
    return 0
