"""A job: its program runs once, whatever happens, and what it left is carried out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from apps.placements.observation import Exit, Rank
from workers.crashpoints import point
from workers.targets.process.copies import Copy
from workers.targets.process.endings import WATCHER_DIED
from workers.targets.process.files import Status

if TYPE_CHECKING:
    from workers.targets.process.shim import Shim


class Job:
    def __init__(self, shim: Shim) -> None:
        self._shim = shim
        self._copy: Copy | None = None
        self._ended = False

    def begin(self) -> None:
        """Start the program. The status says `running` first: a shim that dies here never starts it a second time."""
        shim = self._shim
        self._copy = Copy(shim.loop, shim.files, shim.spec, 0, True, self.finish)
        shim.enter("running")
        point("process.shim.start.before")
        self._copy.start()
        shim.tell("started")
        if (deadline := shim.spec.workload.deadline_seconds) is not None:
            copy, grace = self._copy, shim.spec.workload.grace_seconds
            shim.loop.after(deadline, lambda: copy.end("deadline", grace))

    def resume(self, status: Status) -> None:
        """Go on for a shim that was killed: what ran is gone by now, what was to be stored is stored again."""
        self.finish(status.observed.exit or WATCHER_DIED)

    def stop(self, grace_seconds: float, cause: str) -> None:
        if self._copy and self._copy.running:
            self._copy.end("resume" if cause == "resume" else "stop", grace_seconds)

    def fill_disk(self) -> None:
        for copy in self.copies:
            copy.end("disk", 0)

    def finish(self, exit: Exit) -> None:
        """The program ended: carry out what it left, all of it if it ended well, else what is to be kept always."""
        shim = self._shim
        self._ended = True
        shim.exit = exit
        shim.tell("exited")
        shim.enter("storing")
        outputs = [output for output in shim.spec.workload.outputs if exit.reason == "ok" or output.always]
        if outputs and not shim.discard:
            point("process.shim.store.before")
            shim.carry("out", "all" if exit.reason == "ok" else "always", self._stored)
        else:
            shim.end()

    def _stored(self, outputs: dict[str, dict[str, object]] | None, failure: str, message: str) -> None:
        shim, exit = self._shim, self._shim.exit
        assert exit
        if outputs is not None:
            shim.keep(outputs)
            shim.tell("stored")
        elif exit.reason == "ok":
            shim.exit = Exit(exit.code, exit.signal, "error", message, failure)
        else:
            shim.exit = dataclasses.replace(exit, message=f"{exit.message} What it left could not be kept: {message}")
        shim.end()

    @property
    def copies(self) -> list[Copy]:
        return [self._copy] if self._copy and not self._ended else []

    @property
    def ranks(self) -> tuple[Rank, ...]:
        return (Rank(0, "exited" if self._ended else "running"),) if self._copy or self._ended else ()
