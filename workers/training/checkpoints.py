"""The latest complete checkpoint of a run, written beside the training.

`out/checkpoint/step-<n>/` is moved there whole, then older ones are removed, so that whatever is found there is
complete whenever the program is killed. A checkpoint's `.metadata` is read with pickle: one from outside is opened
only by a program in a cage.

The first process alone writes and reads it, and tells the others: the state is the same on all, and they may be on
machines that share no directory with it.
"""

from __future__ import annotations

import json
import shutil
import warnings
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse

from workers.training.failure import Failure
from workers.training.processes import Processes

DESCRIPTION = "run.json"
FROM_THE_FIRST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
# In the log of a run with several processes it would only mislead.
warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized", UserWarning)
WITHOUT_IT = "Choose another checkpoint, or start without one."


@dataclass(frozen=True)
class Found:
    """What the first process tells of the checkpoint to go on from; step 0 where there is none."""

    step: int = 0
    with_optimiser: bool = False
    failure: tuple[str, str] = ("", "")


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
        self._pending: tuple[int, Future[Any] | None] | None = None
        self.saved_step = 0

    def restore(self, carried_in: Path | None) -> int:
        """The step to go on from: that of this run's own checkpoint, else of the one brought in, else 0.

        All processes call it. Raises Failure, on all, if the checkpoint is of another model or can't be read.
        """
        groups = [{name: value for name, value in group.items() if name != "params"} for group in self._groups]
        state: dict[str, Any] = {}
        found = self._processes.told(self._read(carried_in, state) if self._processes.first else Found())
        code, message = found.failure
        if code:
            raise Failure(code, message)
        if found.step:
            set_model_state_dict(self._module, state.get("model", {}), options=FROM_THE_FIRST)
        if found.with_optimiser:
            optimiser = state.get("optimiser", {})
            set_optimizer_state_dict(self._module, self._optimiser, optimiser, options=FROM_THE_FIRST)
        for group, wanted in zip(self._groups, groups, strict=True):
            group.update(wanted)  # this run's hyperparameters, not those of the run that wrote the checkpoint
        self.saved_step = found.step
        return found.step

    def _read(self, carried_in: Path | None, state: dict[str, Any]) -> Found:
        """Fill `state` from the checkpoint to go on from, if there is one."""
        shutil.rmtree(self._writing, ignore_errors=True)
        self._complete.mkdir(parents=True, exist_ok=True)
        self._remove_older_than(latest(self._complete))
        path = latest(self._complete) or (latest(carried_in / "checkpoint") if carried_in else None)
        if path is None:
            return Found()
        try:
            found = json.loads((path / DESCRIPTION).read_text())
            if any(found[name] != self._description[name] for name in ("recipe", "arguments")):
                message = (
                    f"The checkpoint is of another model ({found['recipe']} with {found['arguments']}). "
                    "Choose the dataset and recipe that it was made with, or start without a checkpoint."
                )
                return Found(failure=("CheckpointMismatch", message))
            with_optimiser = found["optimiser"] == self._description["optimiser"]
            state["model"] = get_model_state_dict(self._module)
            if with_optimiser:
                state["optimiser"] = get_optimizer_state_dict(self._module, self._optimiser)
            dcp.load(state, checkpoint_id=path, no_dist=True)
        except CheckpointException as error:
            why = str(_cause(error)).partition("\n")[0]
            return Found(failure=("CheckpointDamaged", f"The checkpoint can't be read: {why}. {WITHOUT_IT}"))
        except (KeyError, TypeError, ValueError) as error:
            message = f"The checkpoint's {DESCRIPTION} does not say of what it is: {error!r}. {WITHOUT_IT}"
            return Found(failure=("CheckpointDamaged", message))
        return Found(step_of(path), with_optimiser)

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return self._optimiser.param_groups

    def begin(self, step: int) -> None:
        """Copy the state and write it in the background, one checkpoint at a time. All processes call it."""
        self.settle(wait=True)
        if not self._processes.first:
            self._pending = (step, None)
            return
        state = {
            "model": get_model_state_dict(self._module),
            "optimiser": get_optimizer_state_dict(self._module, self._optimiser),
        }
        response = dcp.async_save(state, checkpoint_id=self._writing / f"step-{step}", no_dist=True)
        future = response.upload_completion if isinstance(response, AsyncSaveResponse) else response
        self._pending = (step, future)

    def settle(self, wait: bool) -> None:
        """Move a written checkpoint to its place. Without `wait` only if it is written already.

        Raises what kept it from being written (OSError, where the disk is full).
        """
        if self._pending is None:
            return
        step, future = self._pending
        if future is not None:
            if not (wait or future.done()):
                return
            try:
                future.result()
            except CheckpointException as error:  # no Exception, so that nobody would take it for one
                raise _cause(error) from error
            written = self._writing / f"step-{step}"
            (written / DESCRIPTION).write_text(json.dumps(self._description | {"step": step}))
            complete = written.replace(self._complete / written.name)
            self._remove_older_than(complete)
        self._pending = None
        self.saved_step = step

    def finish(self, step: int) -> None:
        """The checkpoint of this step is in its place when this returns. All processes call it."""
        self.settle(wait=True)
        if self.saved_step != step:
            self.begin(step)
            self.settle(wait=True)
        dist.barrier()  # a process that ended before the first has written would end that one too

    def _remove_older_than(self, newest: Path | None) -> None:
        for path in self._complete.glob("step-*"):
            if path != newest:
                shutil.rmtree(path, ignore_errors=True)


def _cause(error: CheckpointException) -> BaseException:
    """What went wrong, out of its wrapping."""
    return next((reason for reason, _trace in error.failures.values()), error)


def latest(directory: Path) -> Path | None:
    """The newest checkpoint in this folder, if it holds one."""
    found = [
        path for path in directory.glob("step-*") if (path / DESCRIPTION).is_file() and (path / ".metadata").is_file()
    ]
    return max(found, key=step_of, default=None)


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
