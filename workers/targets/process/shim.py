"""The shim: one small detached process that owns a workload of this host, from its inputs to its outputs.

    python -S -E -m workers.targets.process.shim <directory> [<descriptor>]

It takes the directory's lock, or leaves at once: started twice, it runs once. It lives on when the worker dies, and
everything it knows stands in `status.json`; a shim that was killed is followed by another, which finds there how
far the first came. To `descriptor` it writes one byte when it has taken charge.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apps.placements.observation import Exit, Observed, State, Stored
from workers.crashpoints import point
from workers.targets.process import limits, processes
from workers.targets.process.files import (
    STREAM_BYTES,
    Damaged,
    Phase,
    Spec,
    Status,
    Stop,
    WorkloadFiles,
    now,
    write_whole,
)
from workers.targets.process.jobs import Job
from workers.targets.process.loop import Loop
from workers.targets.process.services import Service

LOOK_SECONDS, SERVICE_LOOK_SECONDS = 1.0, 5.0
MESSAGES = {"fetching": "Its inputs are fetched.", "storing": "What it left is stored.", "paused": "Stopped for now."}
Carried = Callable[[dict[str, dict[str, object]] | None, str, str], None]


class Shim:
    def __init__(self, files: WorkloadFiles, spec: Spec, before: Status | None) -> None:
        self.files, self.spec, self.loop = files, spec, Loop()
        self.exit: Exit | None = before.observed.exit if before else None
        self._before = before
        self._phase: Phase = before.phase if before else "fetching"
        self._times = dict(before.observed.times) if before else {"accepted": now()}
        self._outputs = dict(before.observed.outputs) if before else {}
        self._ports = dict(before.ports) if before else {}
        self._stop: Stop | None = None
        self._finished = False
        self._written = True
        self._carrying = 0
        self._streams: dict[str, int] = {}
        self.service = Service(self, self._ports)
        self._job = Job(self)
        self._program: Job | Service = self._job if spec.workload.kind == "job" else self.service

    def run(self) -> None:
        """From wherever the last shim came to, to the end."""
        self._wake = os.open(self.files.path / "wake", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.loop.watch(self._wake, self._look)
        self._clear_leftovers()
        self._look()
        self._begin()
        self._watch_files()
        self._watch_disk()
        self.loop.run_until(lambda: self._finished and self._written)

    def _begin(self) -> None:
        if self._finished:
            return
        if self.spec.workload.kind == "job" and self._before and self._before.phase in ("running", "storing"):
            self._job.resume(self._before)
        elif self._stop:
            self._stopped_early()
        elif "fetched" in self._times or not self.spec.workload.inputs:
            self._program.begin()
        else:
            self.enter("fetching")
            point("process.shim.fetch.before")
            self.carry("in", "all", self._fetched)

    def _fetched(self, outputs: dict[str, dict[str, object]] | None, failure: str, message: str) -> None:
        if self._stop:
            self._stopped_early()
        elif outputs is None:
            self.exit = Exit(None, None, "error", message, failure)
            self.end()
        else:
            self.tell("fetched")
            self._program.begin()
            self._look()

    def carry(self, way: str, which: str, done: Carried) -> None:
        """Run carry beside the program, outside its cage. `done(outputs or None, failure, message)` when it ended."""
        (self.files.path / "carried.json").unlink(missing_ok=True)
        shim = os.getpid()
        self._carrying = pid = os.fork()
        if pid == 0:
            status = 1
            try:
                processes.die_with_parent(shim)
                status = self._carry_here(way, which)
            except Exception:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)

        def ended(status: int) -> None:
            self._carrying = 0
            said = self.files.read_carried()
            what = "What it needs could not be fetched" if way == "in" else "What it left could not be stored"
            broken = f"{what}: the process for that was ended ({os.waitstatus_to_exitcode(status)}). Start it again."
            outputs = said.get("outputs") if status == 0 else None
            done(outputs, said.get("failure", "CarryFailed"), said.get("message", broken))

        self.loop.on_exit(pid, ended)

    def _carry_here(self, way: str, which: str) -> int:
        """In a fork of the shim, not a new interpreter: starting that would take longer than a small input does."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        import site  # the shim starts without it

        site.main()
        from workers.targets.carry import carry

        path = self.files.path
        said = carry(way, path, self.spec.workload, path / "grants.json", which)
        write_whole(path / "carried.json", json.dumps(said).encode())
        return 0 if "outputs" in said else 1

    def enter(self, phase: Phase) -> None:
        self._phase = phase
        self.save()

    def tell(self, event: str) -> None:
        self._times[event] = now()
        self.save()

    def keep(self, outputs: dict[str, Any]) -> None:
        self._outputs = {name: Stored(**stored) for name, stored in outputs.items()}

    def end(self) -> None:
        """The last word: nothing of the workload is left and its outputs are where they belong."""
        self.exit = self.exit or Exit(None, None, "killed", "It was stopped on request.")
        (self.files.path / "grants.json").unlink(missing_ok=True)
        self._leave("exited")

    def service_ended(self) -> None:
        if self._stop and self._stop.resume:
            self._leave("paused")
        else:
            self.end()

    def _leave(self, phase: Phase) -> None:
        processes.kill_until_none(lambda: processes.descendants(self._strays()))
        self.enter(phase)
        self._finished = True

    @property
    def discard(self) -> bool:
        return bool(self._stop and self._stop.discard)

    def save(self) -> None:
        """Write the status as it is now."""
        if self._finished:
            return
        groups = [str(folder) for copy in self._program.copies for folder in copy.group.folders]
        ranks = self._program.ranks
        observed = Observed(
            state=self._state(),
            generation=self.spec.generation,
            ranks=ranks,
            outputs=self._outputs,
            exit=self.exit,
            times=self._times,
            message=MESSAGES.get(self._phase) or next((rank.message for rank in ranks if rank.message), ""),
        )
        self._status = Status(self._phase, observed, self.service.ports, groups)
        self._write()

    def _write(self) -> None:
        """A full disk must not end a program: the status is written as soon as there is room again."""
        try:
            self.files.write_status(self._status)
            self._written = True
        except OSError as error:
            print(f"The status could not be written: {error}", file=sys.stderr)
            if self._written:
                self._written = False
                self.loop.after(LOOK_SECONDS, self._write_again)

    def _write_again(self) -> None:
        if not self._written:
            self._written = True
            self._write()

    def _state(self) -> State:
        states: dict[str, State] = {"fetching": "pending", "paused": "pending", "exited": "exited"}
        if self._phase == "running" and self.spec.workload.kind == "service" and self.service.ready:
            return "ready"
        return states.get(self._phase, "running")

    def _look(self) -> None:
        """Read what the target wants now. Called when it says so, and now and then in case that was lost."""
        try:
            while os.read(self._wake, 4096):
                continue
        except BlockingIOError:
            pass
        spec = self.files.read_spec()
        if spec is None:
            self._abandoned()
        elif spec.generation != self.spec.generation or spec.workload != self.spec.workload:
            self.spec = spec
            if self._phase == "running" and spec.workload.kind == "service":
                self.service.scale()
            self.save()
        stop = self.files.read_stop()
        if stop and stop != self._stop:
            self._stop = stop
            self._act_on(stop)

    def _act_on(self, stop: Stop) -> None:
        if self._phase == "running":
            self._program.stop(stop.grace_seconds, "resume" if stop.resume else "stop")
        elif self._carrying and (self._phase == "fetching" or stop.discard):
            processes.kill([self._carrying])

    def _stopped_early(self) -> None:
        assert self._stop
        if self.spec.workload.kind == "service":
            self.service_ended()
        else:
            self.exit = Exit(None, None, "killed", "It was stopped before its program began.")
            self.end()

    def _abandoned(self) -> None:
        """Somebody removed the directory: leave nothing behind, and no word, since there is nowhere to write it."""
        mark = processes.mark_of(self.files.path)
        processes.kill_until_none(lambda: processes.descendants([*self._strays(), *self.loop.children]))
        limits.ControlGroup(limits.leftover_groups(mark, []), 0).remove()
        os._exit(1)

    def _strays(self) -> list[int]:
        """Children that nobody watches: orphans of the program which hid from its copy."""
        self.loop.reap_orphans()
        own, watched = os.getpid(), self.loop.children
        return [pid for pid, parent in processes.parents().items() if parent == own and pid not in watched]

    def _clear_leftovers(self) -> None:
        """What a killed shim left running. In a cage all died with it; elsewhere the mark and the groups tell."""
        if self._before is None:
            return
        mark = processes.mark_of(self.files.path)
        groups = limits.leftover_groups(mark, self._before.groups)
        processes.kill_until_none(lambda: sorted({*processes.marked(mark), *limits.members(groups)}))
        limits.ControlGroup(groups, 0).remove()

    def _watch_files(self) -> None:
        self._look()
        streams = self.files.stream_bytes(self.spec.stream_bytes)
        if streams != self._streams:
            self._streams = streams
            self.files.touch_status()
        if self.spec.stream_bytes is None:
            for name, size in streams.items():
                if size > STREAM_BYTES + 4 * 1024**2:
                    limits.free_beginning(self.files.stream(name), STREAM_BYTES)
        self.loop.after(LOOK_SECONDS if self.spec.workload.kind == "job" else SERVICE_LOOK_SECONDS, self._watch_files)

    def _watch_disk(self) -> None:
        began = time.monotonic()
        path, allowed = self.files.path, self.spec.workload.resources.disk_bytes
        if limits.disk_bytes(path / "out", path / "tmp", path / "metrics") > allowed:
            self._program.fill_disk()
        self.loop.after(max(LOOK_SECONDS, 20 * (time.monotonic() - began)), self._watch_disk)


def main(arguments: list[str]) -> int:
    directory, ready = Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else -1
    if os.fork():
        os._exit(0)  # whoever started us need not wait for our end
    os.umask(0o022)  # a caged program runs under another user and must be able to read its inputs
    files = WorkloadFiles(directory)
    if not files.take_lock():
        return 0
    processes.become_subreaper()
    spec = files.read_spec()
    try:
        before = files.read_status()
    except Damaged:
        before = Status("running", Observed("running"))  # how far it came is lost, so its program may have begun
    if spec is None or (before and before.final):
        return 0
    stop = files.read_stop()
    if stop and stop.resume and spec.workload.kind == "service":
        (directory / "stop.json").unlink()  # that stop was the product's, and it runs again
    signal.signal(signal.SIGTERM, lambda number, frame: files.request_stop(Stop(spec.workload.grace_seconds, True)))
    shim = Shim(files, spec, before)
    shim.save()
    if ready >= 0:
        os.write(ready, b"1")
        os.close(ready)
    shim.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
