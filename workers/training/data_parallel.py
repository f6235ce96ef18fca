"""Train a recipe on every process that torchrun starts, each with its share of every batch.

    python -m workers.training.launch --nproc-per-node=2 --max-restarts=3 --role=rank --tee=3 \
        -m workers.training.data_parallel

Reads WINDLASS_DATA, WINDLASS_HYPERPARAMETERS, WINDLASS_OUT and, if set, WINDLASS_IN (for a checkpoint) and
WINDLASS_METRICS. On several nodes each has its own; what the run leaves is left at the first. Ends with 0, with 143
after SIGTERM at any node, with 129 where another process of the run is gone, or with 1.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from apps.training.hyperparameters import RECIPES, validate
from workers.training.dataset import Dataset, read_dataset
from workers.training.failure import Failure, read_failure, write_failure
from workers.training.settings import Settings, out_directory, read_settings, refuse

if TYPE_CHECKING:
    from workers.training.processes import Processes

STOPPED = 128 + signal.SIGTERM
HUNG_UP = 128 + signal.SIGHUP  # as of one who was killed: the cause is where the other process was


def main() -> int:
    out = out_directory()
    failed = read_failure(out)
    if failed and int(os.environ.get("GROUP_WORLD_SIZE", "1")) == 1:
        # torchrun starts a failed run again; this one failed for a reason that a restart does not change.
        return 1
    try:
        if failed:
            _tell(failed)
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        settings = read_settings(processes)
        dataset = read_dataset(settings.data, RECIPES[settings.hyperparameters["recipe"]].dataset_kind)
        refuse(validate(settings.hyperparameters, processes, len(dataset.train)))
        return _train(settings, dataset)
    except Failure as failure:
        reason = failure
    except OSError as error:
        traceback.print_exc()
        if error.errno != errno.ENOSPC:
            return 1
        reason = Failure(
            "DiskFull", "The disk is full: nothing more could be written. Free some space, then clone the run."
        )
    except Exception as error:
        if _lost_process(error):
            why = str(error).partition("\n")[0]
            print(f"Another process of the run is gone; torchrun starts all of them again. ({why})", file=sys.stderr)
            return HUNG_UP
        traceback.print_exc()
        if not _out_of_memory(error):
            return 1
        reason = Failure("OutOfMemory", "The memory is full. Use a smaller batch_size, or a larger accumulation.")
    write_failure(out, reason)
    print(f"{reason.code}: {reason.message}", file=sys.stderr, flush=True)
    return 1


def _train(settings: Settings, dataset: Dataset) -> int:
    began = time.monotonic()
    # Late: a run that can't start says so at once, without loading torch.
    import torch

    from workers.training.loop import Stopped, Training
    from workers.training.outputs import write_outputs
    from workers.training.processes import joined_processes

    settings.out.mkdir(parents=True, exist_ok=True)
    with joined_processes() as processes:
        _hear(processes, None)
        training = Training(settings, dataset, processes)
        processes.say(f"Ready after {time.monotonic() - began:.1f} s; processes: {processes.world_size}.")
        trained_from = time.monotonic()
        try:
            training.run()
        except Stopped:
            return STOPPED
        processes.say(f"Trained in {time.monotonic() - trained_from:.1f} s.")
    # The checkpoint holds all: from here on a stop needs no farewell.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if processes.first:
        wrote_from = time.monotonic()
        indexes = torch.from_numpy(dataset.held_out[:64])
        examples, _ = training.recipe.batch(dataset, indexes, augment=False)
        write_outputs(
            settings.out,
            training.module.cpu().eval(),
            training.config,
            training.recipe.signature(dataset),
            training.figures | {"steps": training.total_steps, "training_items": len(dataset.train)},
            examples,
        )
        processes.say(f"Wrote the model and its reference graph in {time.monotonic() - wrote_from:.1f} s.")
    return 0


def _tell(failed: Failure) -> None:
    """Meet the other nodes once more, so that they end too: they would start again and again, and wait for this one."""
    from workers.training.processes import joined_processes

    with joined_processes() as processes:
        _hear(processes, failed)


def _hear(processes: Processes, failed: Failure | None) -> None:
    """Raises Failure, on all, if this process or another one has failed for a reason that a restart doesn't change."""
    told = processes.shared((failed.code, failed.message) if failed else None)
    if known := [words for words in told if words]:
        raise Failure(*known[0])


def _lost_process(error: Exception) -> bool:
    import torch.distributed

    said = str(error)
    return isinstance(error, torch.distributed.DistError) or "by peer" in said or "third_party/gloo" in said


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a checkpoint's background thread may wait for a process that is gone.
    os._exit(code)
