"""torchrun, with an end that can be told apart: takes its arguments, ends with the exit code that matters.

    python -m workers.training.launch --standalone --nproc-per-node=2 ... script.py

torchrun itself ends with 1 and a trace of its own after SIGTERM and after any failure. This ends with 143 after
SIGTERM (once the processes had 30 s to write a checkpoint), and else with the exit code of the process that failed
first, 128 + n for one that signal n killed.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

GRACE_SECONDS = 30.0


def main(arguments: list[str]) -> int:
    # A store shared by all attempts keeps the addresses of the processes that are gone, and a restart meets those:
    # it fails or hangs (github.com/pytorch/pytorch/issues/135712).
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # --tee writes here: whoever follows the log waits for it
    try:
        run.main(arguments)
    except SignalException as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_children()
        return 128 + int(stop.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = int(failure.exitcode)
        how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        print(f"Rank {rank} {how}; its last lines are above.", file=sys.stderr, flush=True)
        return code if code >= 0 else 128 - code
    return 0


def _end_children() -> None:
    """torchrun forgets those that it is just starting when the signal comes, and all at a second signal."""
    children = {int(pid) for thread in Path("/proc/self/task").glob("*/children") for pid in thread.read_text().split()}
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    while children:
        if time.monotonic() > deadline:
            for child in children:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
        children = {child for child in children if _lives(child)}


def _lives(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
