"""Where a request's work runs: at once when it is known to be quick, else in a thread behind a bounded queue.

A hand-over to a thread costs more than a tiny model's run, and a slow run on the event loop would hold up health
checks: so each size of request is timed and goes where its last runs say. A batcher belongs here too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workers.serving.messages import Refusal

Answer = TypeVar("Answer")
QUICK_SECONDS = 0.0005
# A size counts as slow for a while after one slow run: 22 quick ones bring 5 ms down to "quick".
FADE = 0.9


class Scheduler:
    """One run at a time in the thread; the model's own threads make a run wide. `most_waiting`: in that queue."""

    def __init__(self, most_waiting: int) -> None:
        self.most_waiting = most_waiting
        self.outstanding = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._seconds: dict[int, float] = {}

    @property
    def waiting(self) -> int:
        return max(0, self.outstanding - 1)

    def is_quick(self, size_bytes: int) -> bool:
        return self._seconds.get(size_bytes.bit_length(), math.inf) < QUICK_SECONDS

    def note(self, size_bytes: int, seconds: float) -> None:
        """Records how long the work of a request of this size kept its thread busy.

        Not the time on the clock: under load that is mostly waiting for the interpreter's lock, and would keep quick
        work in the thread for ever.
        """
        size = size_bytes.bit_length()
        self._seconds[size] = max(seconds, self._seconds.get(size, 0.0) * FADE)

    def submit(self, size_bytes: int, work: Callable[[], Answer]) -> asyncio.Future[Answer]:
        """Runs `work` in the thread; cancelling the future before its turn takes it out. Raises Refusal (429)."""
        if self.outstanding > self.most_waiting:
            each = min(self._seconds.get(size_bytes.bit_length(), 0.0), 60.0)
            seconds = max(1, math.ceil(self.outstanding * each))
            raise Refusal(
                429,
                f"429: {self.waiting} requests wait already, the most this replica holds. Try again after {seconds} s "
                "(the header says so), or allow more replicas.",
                b"retry-after: %d\r\n" % seconds,
            )
        self.outstanding += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _future: asyncio.Future[Answer]) -> None:
        self.outstanding -= 1
