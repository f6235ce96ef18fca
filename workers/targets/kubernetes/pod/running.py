"""Around the program in its container: it is started once, listened to, stopped in time, and its end is told.

What the shim is on a host, without its cage: the container is the cage.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
from collections import deque
from pathlib import Path
from types import FrameType

from apps.placements.observation import Exit
from workers.targets.environment import environment
from workers.targets.kubernetes.pod.folders import OUTPUT_BYTES, Pod
from workers.targets.process import processes, starting
from workers.targets.process.cage import limit_resources
from workers.targets.process.endings import Cause, Limits, ending
from workers.targets.process.loop import Loop
from workers.targets.process.probes import inherited, listening
from workers.targets.process.streams import Log

TAIL_BYTES = 64 * 1024
STOPPED = 128 + signal.SIGTERM
_OOM_COUNTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


class Running:
    """One run of the program. `pid` is 0 when it ended, `exit` says how then."""

    def __init__(self, pod: Pod) -> None:
        self._pod, self._loop = pod, Loop()
        self._workload = pod.workload()
        resources = self._workload.resources
        nodes = self._workload.nodes if self._workload.kind == "job" else 1
        self._limits = Limits(
            resources.memory_bytes // nodes, resources.disk_bytes // nodes, self._workload.deadline_seconds
        )
        self._log = Log(os.dup(1), OUTPUT_BYTES)
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._cause: Cause = ""
        self._output: starting.Output | None = None
        self._not_started = ""
        self._oom_kills = _oom_kills()
        self.pid = 0
        self.exit: Exit | None = None

    def run(self) -> Exit:
        """From its start to its end, which is told before this returns."""
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        self._start()
        if self._limits.deadline_seconds is not None:
            self._loop.after(self._limits.deadline_seconds, lambda: self._end("deadline"))
        self._loop.run_until(lambda: self.exit is not None)
        assert self.exit
        return self.exit

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._loop.after(0, lambda: self._end("stop"))

    def _start(self) -> None:
        listener = None
        if self._workload.kind == "service" and self._workload.ports:
            listener = listening(self._pod.address, self._pod.port)
        parent = os.getpid()
        self.pid, output, self._not_started = starting.start(lambda output: self._become(parent, output, listener))
        if listener:
            listener.close()  # only the program keeps it, and it vanishes with the program
        self._loop.on_exit(self.pid, self._exited)
        self._output = starting.Output(self._loop, output, self._heard)

    def _become(self, parent: int, output: int, listener: socket.socket | None) -> None:
        """Turn this new process into the program."""
        starting.detach(output)
        pod, workload = self._pod, self._workload
        argv = starting.argv_of(workload)
        temporary = f"tmp/{pod.rank}"
        shutil.rmtree(pod.work / temporary, ignore_errors=True)
        (pod.work / temporary).mkdir(mode=0o700, exist_ok=True)
        surroundings = environment(workload, pod.work, pod.rank, temporary, processes.mark_of(pod.work))
        surroundings |= {"WINDLASS_ADDRESS": pod.address, "WINDLASS_NODE_RANK": str(pod.rank)}
        if listener:
            surroundings["WINDLASS_LISTEN_FD"] = str(inherited(listener))
        limit_resources(self._limits.disk_bytes, None)
        processes.die_with_parent(parent)
        os.chdir(pod.work)
        os.execvpe(argv[0], argv, surroundings)  # noqa: S606 - no shell is the point

    def _heard(self, data: bytes) -> None:
        self._log.feed(data)
        self._tail.append(data)
        self._tail_bytes += len(data)
        while self._tail_bytes - len(self._tail[0]) > TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    def _end(self, cause: Cause) -> None:
        """SIGTERM now and SIGKILL after the grace time. The first cause is the one that is told."""
        if not self.pid or self._cause:
            return
        self._cause = cause
        processes.kill([self.pid], signal.SIGTERM)
        self._loop.after(self._workload.grace_seconds, self._kill)

    def _kill(self) -> None:
        if self.pid:
            processes.kill(processes.descendants([self.pid]))
            self._loop.after(0.2, self._kill)

    def _left(self) -> list[int]:
        """All below us: whatever hid from the program was given to us."""
        self._loop.reap_orphans()
        own = os.getpid()
        tree = processes.parents()
        return processes.descendants([pid for pid, parent in tree.items() if parent == own], tree)

    def _exited(self, status: int) -> None:
        self.pid = 0
        processes.kill_until_none(self._left)  # before anyone is told: what it left running must not write any more
        assert self._output
        self._output.drain()
        self._log.flush()
        if self._not_started:
            told = starting.not_started(self._not_started)
        else:
            cause: Cause = "memory" if _oom_kills() > self._oom_kills and status and not self._cause else self._cause
            uploaded = self._workload.trust == "uploaded"
            told = ending(status, cause, self._limits, self._pod.work / "out", self._lines, uploaded)
        self._pod.write_exit(dataclasses.asdict(told))
        self.exit = told

    def _lines(self) -> list[str]:
        return b"".join(self._tail).decode(errors="replace").splitlines()


def _oom_kills() -> int:
    """How many processes of this container the kernel killed for want of memory. Where it kills the whole container
    at once, nobody is left to ask, and Kubernetes tells it."""
    kills = 0
    for path in _OOM_COUNTS:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        kills += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return kills


def run(pod: Pod) -> int:
    """Ends as the program does: with its exit code, or 128 + n after signal n."""
    os.umask(0o022)
    processes.become_subreaper()
    (pod.work / "state" / "exit.json").unlink(missing_ok=True)  # of a container before this one
    pod.hold_running()
    told = Running(pod).run()
    pod.tell(dataclasses.asdict(told))
    if told.reason == "ok":
        return 0
    if told.signal:
        return 128 + told.signal
    return told.code or (STOPPED if told.reason == "killed" else 1)
