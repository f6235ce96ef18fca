"""One running copy of a workload's program: started, listened to, and ended with all that it started."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from apps.placements.observation import Exit
from workers.targets.environment import environment
from workers.targets.process import cage, processes, starting
from workers.targets.process.endings import Cause, Limits, ending
from workers.targets.process.files import Spec, WorkloadFiles
from workers.targets.process.limits import ControlGroup
from workers.targets.process.loop import Loop
from workers.targets.process.probes import inherited
from workers.targets.process.streams import Log, appending, tail

MEMORY_SECONDS = 0.5


class Copy:
    """`ended` is called once, when nothing of the copy is left. `alone`: no other copy is below this shim."""

    def __init__(
        self,
        loop: Loop,
        files: WorkloadFiles,
        spec: Spec,
        ordinal: int,
        alone: bool,
        ended: Callable[[Exit], None],
    ) -> None:
        self.loop, self.files, self.spec, self.ordinal = loop, files, spec, ordinal
        self._alone, self._ended = alone, ended
        self._mark = processes.mark_of(files.path)
        self._limits = Limits(
            spec.workload.resources.memory_bytes,
            spec.workload.resources.disk_bytes,
            spec.workload.deadline_seconds,
        )
        self.group = ControlGroup.make(f"windlass-{self._mark}-{ordinal}", self._limits.memory_bytes)
        self.log = Log(appending(files.stream(str(ordinal))), spec.stream_bytes)
        self.pid = 0
        self.cause: Cause = ""
        self.started_at = 0.0
        self._output: starting.Output | None = None
        self._not_started = ""

    @property
    def running(self) -> bool:
        return self.pid != 0

    def start(self, listener: socket.socket | None = None) -> None:
        """Start it. The listener is closed here: only the program keeps it, and it vanishes with the program."""
        temporary = self._temporary_folder()
        shim = os.getpid()
        self.pid, output, self._not_started = starting.start(
            lambda output: self._become(shim, output, listener, temporary)
        )
        if listener:
            listener.close()
        self.started_at = time.monotonic()
        self.loop.on_exit(self.pid, self._exited)
        self._output = starting.Output(self.loop, output, self.log.feed)
        if not self.group.limits_memory:
            self.loop.after(MEMORY_SECONDS, self._check_memory)

    def end(self, cause: Cause, grace_seconds: float) -> None:
        """SIGTERM now and SIGKILL after the grace time. The first cause is the one that is told."""
        if not self.running:
            return
        self.cause = self.cause or cause
        if grace_seconds > 0:
            self._terminate()
        self.loop.after(max(0.0, grace_seconds), self._kill)

    def _terminate(self) -> None:
        """SIGTERM to the program itself: bubblewrap's own two processes would not pass it on."""
        if not self.running:
            return
        program = self.pid
        if self.spec.cage:
            tree = processes.parents()
            program = processes.first_child(processes.first_child(self.pid, tree), tree)
        if program:
            processes.kill([program], signal.SIGTERM)
        else:
            self.loop.after(0.01, self._terminate)  # the cage is still being built

    def _kill(self) -> None:
        if self.running:
            processes.kill(processes.descendants([self.pid]))
            self.loop.after(0.2, self._kill)

    def _pids(self) -> list[int]:
        """Every process of this copy: below it, in its control group, or orphaned from it and given to the shim."""
        self.loop.reap_orphans()
        tree = processes.parents()
        shim = os.getpid()
        roots = [self.pid] if self.running else []
        for pid, parent in tree.items():
            if parent == shim and pid not in self.loop.children and (self._alone or self._is_mine(pid)):
                roots.append(pid)
        return sorted({*processes.descendants(roots, tree), *self.group.pids()})

    def _is_mine(self, pid: int) -> bool:
        return processes.environment_holds(pid, f"WINDLASS_MARK={self._mark}", f"WINDLASS_ORDINAL={self.ordinal}")

    def _check_memory(self) -> None:
        if not self.running or self.cause == "memory":
            return
        limit = self._limits.memory_bytes
        if processes.memory_bytes(self._pids(), limit) > limit:
            self.end("memory", 0)
        self.loop.after(MEMORY_SECONDS, self._check_memory)

    def _exited(self, status: int) -> None:
        self.pid = 0
        processes.kill_until_none(self._pids)
        assert self._output
        self._output.drain()
        self.log.flush()
        out_of_memory = status != 0 and self.group.ran_out_of_memory()
        self.group.remove()
        if self._not_started:
            told = starting.not_started(self._not_started)
        else:
            cause: Cause = "memory" if out_of_memory and not self.cause else self.cause
            uploaded = self.spec.workload.trust == "uploaded"
            log = self.files.stream(str(self.ordinal))
            told = ending(status, cause, self._limits, self.files.path / "out", lambda: tail(log), uploaded)
        self._ended(told)
        self.log.close()

    def _temporary_folder(self) -> str:
        """An empty folder of the copy's own, which its user may write. Returns its path as the program sees it."""
        own = self.files.path / "tmp" / str(self.ordinal)
        if own.exists() or own.is_symlink():
            from workers.targets.process.clearing import clear_beside_others  # only a restart pays for it

            clear_beside_others(own)
        own.mkdir(mode=0o700, exist_ok=True)
        user = cage.user_id(self.files.name) if self.spec.cage else None
        if user is not None:
            descriptor = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            os.fchown(descriptor, user, user)
            os.close(descriptor)
        return f"tmp/{self.ordinal}"

    def _become(self, shim: int, output: int, listener: socket.socket | None, temporary: str) -> None:
        """Turn this new process into the program."""
        starting.detach(output)
        Path("/proc/self/oom_score_adj").write_text("500")  # the kernel should take this before our own processes
        self.group.enter()
        workload, path = self.spec.workload, self.files.path
        argv = starting.argv_of(workload)
        root = cage.INSIDE if self.spec.cage else path
        surroundings = environment(workload, root, self.ordinal, temporary, self._mark)
        surroundings["WINDLASS_ADDRESS"] = self.spec.address
        if listener:
            surroundings["WINDLASS_LISTEN_FD"] = str(inherited(listener))
        user = cage.user_id(path.name) if self.spec.cage else None
        cage.limit_resources(self._limits.disk_bytes, user)
        if self.spec.cage:
            resources = workload.resources
            cage.enter(
                self.spec.cage,
                path,
                argv,
                surroundings,
                resources.memory_bytes,
                resources.gpus,
                may_connect=listener is None,
                peers=workload.network == "peers",
            )
        processes.die_with_parent(shim)
        os.chdir(path)
        os.execvpe(argv[0], argv, surroundings)  # noqa: S606 - no shell is the point
