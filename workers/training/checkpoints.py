"""The latest complete checkpoint of a run, written beside the training.

`out/checkpoint/step-<n>/` is moved there whole, then older ones are removed, so that whatever is found there is
complete whenever the program is killed. A checkpoint's `.metadata` is read with pickle: one from outside is opened
only by a program in a cage.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse

from workers.training.failure import Failure
from workers.training.processes import Processes

DESCRIPTION = "run.json"


class Checkpoints:
    """`description`: what a checkpoint must agree with to be gone on from (its recipe and arguments)."""

    def __init__(
        self,
        processes: Processes,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        description: dict[str, Any],
        out: Path,
    ) -> None:
        self._processes = processes
        self._module = module
        self._optimiser = optimiser
        self._description = description | {"optimiser": type(optimiser).__name__}
        self._complete = out / "checkpoint"
        self._writing = out / "checkpoint-writing"
        self._pending: tuple[int, Future[Any]] | None = None
        self.saved_step = 0

    def restore(self, carried_in: Path | None) -> int:
        """The step to go on from: that of this run's own checkpoint, else of the one brought in, else 0.

        Raises Failure if the checkpoint is of another model.
        """
        if self._processes.first:
            shutil.rmtree(self._writing, ignore_errors=True)
            self._complete.mkdir(parents=True, exist_ok=True)
            self._remove_older_than(latest(self._complete))
        dist.barrier()
        path = latest(self._complete) or (latest(carried_in / "checkpoint") if carried_in else None)
        if path is None:
            return 0
        found = json.loads((path / DESCRIPTION).read_text())
        if any(found[name] != self._description[name] for name in ("recipe", "arguments")):
            raise Failure(
                "CheckpointMismatch",
                f"The checkpoint is of another model ({found['recipe']} with {found['arguments']}). "
                "Choose the dataset and recipe that it was made with, or start without a checkpoint.",
            )
        self._load(path, with_optimiser=found["optimiser"] == self._description["optimiser"])
        self.saved_step = step_of(path)
        return self.saved_step

    def _load(self, path: Path, with_optimiser: bool) -> None:
        state: dict[str, Any] = {"model": get_model_state_dict(self._module)}
        groups = [{name: value for name, value in group.items() if name != "params"} for group in self._groups]
        if with_optimiser:
            state["optimiser"] = get_optimizer_state_dict(self._module, self._optimiser)
        dcp.load(state, checkpoint_id=path)
        set_model_state_dict(self._module, state["model"])
        if with_optimiser:
            set_optimizer_state_dict(self._module, self._optimiser, state["optimiser"])
        for group, wanted in zip(self._groups, groups, strict=True):
            group.update(wanted)  # this run's hyperparameters, not those of the run that wrote the checkpoint

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return self._optimiser.param_groups

    def begin(self, step: int) -> None:
        """Copy the state and write it in the background, one checkpoint at a time. All processes call it."""
        self.settle(wait=True)
        state = {
            "model": get_model_state_dict(self._module),
            "optimiser": get_optimizer_state_dict(self._module, self._optimiser),
        }
        response = dcp.async_save(
            state,
            checkpoint_id=self._writing / f"step-{step}",
            planner=DefaultSavePlanner(dedup_save_to_lowest_rank=True),
            process_group=self._processes.checkpoint_group,
        )
        future = response.upload_completion if isinstance(response, AsyncSaveResponse) else response
        self._pending = (step, future)

    def settle(self, wait: bool) -> None:
        """Move a written checkpoint to its place. Without `wait` only if it is written already."""
        if self._pending is None or not (wait or self._pending[1].done()):
            return
        step, future = self._pending
        future.result()
        self._pending = None
        if self._processes.first:
            written = self._writing / f"step-{step}"
            (written / DESCRIPTION).write_text(json.dumps(self._description | {"step": step}))
            complete = written.replace(self._complete / written.name)
            self._remove_older_than(complete)
        self.saved_step = step

    def finish(self, step: int) -> None:
        """The checkpoint of this step is in its place when this returns. All processes call it."""
        self.settle(wait=True)
        if self.saved_step != step:
            self.begin(step)
            self.settle(wait=True)

    def _remove_older_than(self, newest: Path | None) -> None:
        for path in self._complete.glob("step-*"):
            if path != newest:
                shutil.rmtree(path, ignore_errors=True)


def latest(directory: Path) -> Path | None:
    """The newest checkpoint in this folder, if it holds one."""
    found = [
        path for path in directory.glob("step-*") if (path / DESCRIPTION).is_file() and (path / ".metadata").is_file()
    ]
    return max(found, key=step_of, default=None)


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
