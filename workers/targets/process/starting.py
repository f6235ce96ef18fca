"""Starting a program below this process: the fork, what the child keeps, and listening to what it writes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from apps.placements.observation import Exit
from apps.placements.workload import Workload
from workers.targets.process.loop import Loop

READ_BYTES = 256 * 1024


def start(become: Callable[[int], None]) -> tuple[int, int, str]:
    """Fork; the child calls `become` with the end of a pipe for its output, and that never returns.

    Returns its pid, the other end of the pipe, and why it did not become a program, "" where it did.
    """
    heard, output = os.pipe2(os.O_CLOEXEC)
    said, say = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            become(output)
        except Exception as error:  # whatever it is, the parent must hear of it: this process has no other voice
            os.write(say, f"{type(error).__name__}: {error}".encode()[:1000])
        os._exit(127)
    for descriptor in (output, say):
        os.close(descriptor)
    why_not = os.read(said, 1000).decode(errors="replace")  # at its end once the program has begun
    os.close(said)
    return pid, heard, why_not


def detach(output: int) -> None:
    """In the child: a session of its own, signals as programs expect them, no input, and all output to the pipe."""
    os.setsid()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


def argv_of(workload: Workload) -> list[str]:
    argv = list(workload.argv)
    if argv[0] == "python":
        argv[0] = sys.executable
    return argv


def not_started(why: str) -> Exit:
    return Exit(None, None, "error", f"The program could not be started: {why}", "ProgramNotStarted")


class Output:
    """What a program writes, given on to `feed` as it comes, until nobody can write any more."""

    def __init__(self, loop: Loop, descriptor: int, feed: Callable[[bytes], None]) -> None:
        self._loop, self._descriptor, self._feed = loop, descriptor, feed
        os.set_blocking(descriptor, False)
        loop.watch(descriptor, self._hear)

    def drain(self) -> None:
        """What was written until now, and no more: a process that isn't ours to end may hold it open."""
        while self._descriptor >= 0 and self._hear():
            continue
        self._close()

    def _hear(self) -> bool:
        """Whether there was something to hear."""
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._feed(data)
        else:
            self._close()
        return bool(data)

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._loop.unwatch(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
