"""The shim's event loop: file descriptors, timers and the deaths of children, in one thread.

One thread because the shim forks, and because a copy of every replica's shim costs memory on each host.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any

Callback = Callable[[], object]


class Loop:
    """`on_exit` callbacks get the wait status. Children that nobody watches (orphans given to us) are reaped too."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callback]] = []
        self._numbers = itertools.count()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._signals, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.watch(self._signals, self._signalled)

    def watch(self, file: Any, callback: Callback, *, writable: bool = False) -> None:
        self._selector.register(file, selectors.EVENT_WRITE if writable else selectors.EVENT_READ, callback)

    def unwatch(self, file: Any) -> None:
        self._selector.unregister(file)

    def after(self, seconds: float, callback: Callback) -> None:
        """Once. There is no cancelling: the callback looks whether it still has something to do."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), callback))

    @property
    def children(self) -> set[int]:
        """The children whose deaths are watched."""
        return set(self._watched)

    def on_exit(self, pid: int, callback: Callable[[int], None]) -> None:
        self._watched[pid] = callback

    def run_until(self, done: Callable[[], bool]) -> None:
        self._reap()
        while not done():
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(wait):
                if key.fd in self._selector.get_map():  # an earlier callback of this round may have closed it
                    key.data()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()

    def reap_orphans(self) -> None:
        """Take in the dead so that they no longer count as processes; deaths that are watched are told as always."""
        self._reap()

    def _signalled(self) -> None:
        os.read(self._signals, 4096)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if callback := self._watched.pop(pid, None):
                self.after(0, lambda callback=callback, status=status: callback(status))  # type: ignore[misc]
