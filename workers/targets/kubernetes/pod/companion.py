"""Beside the program: its figures as this container's log, its outputs to where they belong; for a service who may
call, and what it answered to whoever counts."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

from workers.targets.carry import carry
from workers.targets.kubernetes.pod.folders import OUTPUT_BYTES, Pod
from workers.targets.kubernetes.pod.replica import Replica
from workers.targets.process.files import open_untrusted

LOOK_SECONDS = 0.25
NEVER_BEGAN_SECONDS = 10.0


class Stopping:
    """When SIGTERM came, if it did: the pod is going, with what is left of its grace time."""

    def __init__(self) -> None:
        self.since: float | None = None
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self.since = self.since or time.monotonic()

    def for_seconds(self) -> float:
        return 0.0 if self.since is None else time.monotonic() - self.since


class Figures:
    """Copies the metrics file of a job to this container's log as it grows, byte for byte, up to what a log holds."""

    def __init__(self, pod: Pod) -> None:
        self._path, self._offset = pod.metrics, 0

    def pass_on(self) -> None:
        try:
            descriptor = open_untrusted(self._path)
        except OSError:
            return
        with os.fdopen(descriptor, "rb") as file:
            file.seek(self._offset)
            while self._offset < OUTPUT_BYTES and (data := file.read(min(256 * 1024, OUTPUT_BYTES - self._offset))):
                self._offset += len(data)
                sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def accompany(pod: Pod) -> int:
    workload = pod.granted_workload()
    if workload.kind == "service":
        return _accompany_service(pod, workload.grace_seconds)
    return _accompany_job(pod)


def _accompany_job(pod: Pod) -> int:
    """Wait for the program's end, whatever asks us to end meanwhile: what it left is still to be kept."""
    stopping, figures = Stopping(), Figures(pod)
    while (told := pod.read_exit()) is None:
        figures.pass_on()
        began = pod.began()
        if began and not pod.runs():
            told = pod.read_exit() or {}  # killed with its whole container, as for want of memory
            break
        if not began and stopping.for_seconds() > NEVER_BEGAN_SECONDS:
            break
        time.sleep(LOOK_SECONDS)
    figures.pass_on()
    said: dict[str, object] = {"outputs": {}}
    if pod.rank == 0 and told is not None:
        which = "all" if told.get("reason") == "ok" else "always"
        said = carry("out", pod.work, pod.granted_workload(), pod.grants / "grants.json", which)
    pod.tell(said)
    return 0 if "outputs" in said else 1


def _accompany_service(pod: Pod, grace_seconds: float) -> int:
    """Pull and push for ever; when the pod goes, push once more after the program's last word."""
    stopping, replica = Stopping(), Replica(pod)
    while stopping.since is None:
        replica.turn()
        time.sleep(LOOK_SECONDS)
    while pod.runs() and stopping.for_seconds() < grace_seconds:
        time.sleep(LOOK_SECONDS)
    replica.push()
    return 0
