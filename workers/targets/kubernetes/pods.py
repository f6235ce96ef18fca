"""What one pod says of itself, in plain words: what happened, why, and what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast, get_args

from apps.placements.foreign import plain
from apps.placements.observation import Exit, Reason
from workers.targets.kubernetes.manifests import INDEX, PORT, node_port

MESSAGE_CHARACTERS = 1000
MEMORY = "It needed more memory than it has. Give it more, or smaller batches."
WAITING = {
    "ImagePullBackOff": "Its image can't be pulled: {said}. Look at WINDLASS_IMAGE and the cluster's right to pull it.",
    "CrashLoopBackOff": "It ends again and again, and is started again after a while. {ended}",
    "CreateContainerConfigError": "Its container can't be made: {said}. Its Secret may be gone: start it again.",
    "RunContainerError": "Its container does not start: {said}. Look at the image and at the node.",
}
SAME = {
    "ErrImagePull": "ImagePullBackOff",
    "InvalidImageName": "ImagePullBackOff",
    "ErrImageNeverPull": "ImagePullBackOff",
    "CreateContainerError": "CreateContainerConfigError",
}
# By the reason of the condition DisruptionTarget: (the code, what happened)
DISRUPTED: dict[str, tuple[str, str]] = {
    "PreemptionByScheduler": ("Preempted", "Kubernetes took its place for a pod of higher priority."),
    "DeletionByTaintManager": ("NodeLost", "Its node was lost, or may not run it any more."),
    "DeletionByPodGC": ("NodeLost", "Its node is gone."),
    "EvictionByEvictionAPI": ("Evicted", "Its node was emptied."),
    "TerminationByKubelet": ("Evicted", "Its node shut down, or ran out of memory or disk."),
}


@dataclass(frozen=True)
class Stuck:
    """Why a pod does not go on. `reason`: Unschedulable or a container's waiting reason."""

    reason: str
    message: str


class Pod:
    """Reads one pod of a list. Nothing of it is trusted to have a form but what the API server itself guarantees."""

    def __init__(self, item: dict[str, Any]) -> None:
        self._meta, self._spec = item["metadata"], item.get("spec") or {}
        self._status = item.get("status") or {}
        self._containers = {one["name"]: one for one in self._status.get("containerStatuses") or ()}
        self._first = {one["name"]: one for one in self._status.get("initContainerStatuses") or ()}

    @property
    def name(self) -> str:
        return str(self._meta["name"])

    @property
    def created(self) -> str:
        return str(self._meta.get("creationTimestamp") or "")

    @property
    def index(self) -> int:
        marks = {**(self._meta.get("labels") or {}), **(self._meta.get("annotations") or {})}
        text = str(marks.get(INDEX, "0"))
        return int(text) if text.isdecimal() else 0

    @property
    def of_job(self) -> bool:
        return INDEX in {**(self._meta.get("labels") or {}), **(self._meta.get("annotations") or {})}

    @property
    def going(self) -> bool:
        return bool(self._meta.get("deletionTimestamp"))

    @property
    def finalizers(self) -> list[str]:
        return list(self._meta.get("finalizers") or ())

    @property
    def _phase(self) -> str:
        return str(self._status.get("phase", "Pending"))

    @property
    def ended(self) -> bool:
        """Nothing of it runs any more, nor will."""
        if self._phase in ("Succeeded", "Failed"):
            return True
        if not self.going:
            return False
        stated = [one.get("state") or {} for one in (*self._first.values(), *self._containers.values())]
        return not self._spec.get("nodeName") or (bool(stated) and not any("running" in state for state in stated))

    @property
    def running(self) -> bool:
        return "running" in self._state("program")

    @property
    def ready(self) -> bool:
        conditions = self._status.get("conditions") or ()
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions) and not self.going

    @property
    def restarts(self) -> int:
        return int(self._containers.get("program", {}).get("restartCount") or 0)

    @property
    def started_at(self) -> str:
        """When the program's container of now, or its last one, was started; "" before."""
        state = self._state("program")
        return str((state.get("running") or state.get("terminated") or {}).get("startedAt") or "")

    @property
    def exited_at(self) -> str:
        return str((self._state("program").get("terminated") or {}).get("finishedAt") or "")

    def _state(self, container: str) -> dict[str, Any]:
        return (self._containers.get(container) or {}).get("state") or {}

    def has_log(self, container: str) -> bool:
        return bool(self._state(container).keys() & {"running", "terminated"})

    def endpoint(self, name: str, reach: str) -> tuple[str, int]:
        if reach == "nodes":
            return str(self._status.get("hostIP") or ""), node_port(name)
        return str(self._status.get("podIP") or ""), PORT

    def stuck(self) -> Stuck | None:
        for one in self._status.get("conditions") or ():
            if one["type"] == "PodScheduled" and one["status"] == "False" and one.get("reason") == "Unschedulable":
                why = _plain(one.get("message") or "the scheduler gave no reason")
                fix = "Ask for less, free something there, or add machines to the cluster."
                return Stuck("Unschedulable", f"No machine of the cluster can take it: {why}. {fix}")
        for status in (*self._first.values(), *self._containers.values()):
            waiting = (status.get("state") or {}).get("waiting") or {}
            reason = str(waiting.get("reason") or "")
            words = WAITING.get(SAME.get(reason, reason))
            if words:
                said = _plain(waiting.get("message") or reason)
                return Stuck(SAME.get(reason, reason), words.format(said=said, ended=self.last_end()))
        return None

    def last_end(self) -> str:
        """How the container before this one ended; "" where there was none."""
        status = self._containers.get("program") or {}
        before = (status.get("lastState") or {}).get("terminated") or (status.get("state") or {}).get("terminated")
        told = _exit_of(before) if before else None
        return told.message if told else ""

    def exit(self) -> Exit:
        """How it ended; it has."""
        if taken := self._taken():
            return taken
        for status in self._first.values():
            ended = (status.get("state") or {}).get("terminated")
            if ended and ended.get("exitCode"):
                return _carried(ended) or _exit_of(ended)
        program = self._state("program").get("terminated")
        if program is None:
            return Exit(None, None, "killed", "It was stopped before its program began.")
        told = _exit_of(program)
        companion = self._state("companion").get("terminated") or {}
        if told.reason == "ok" and companion.get("exitCode"):
            return _carried(companion) or _exit_of(companion)
        return told

    def outputs(self) -> dict[str, dict[str, Any]]:
        """As its companion said: {name: {"sha256", "size_bytes"}}."""
        said = _said(self._state("companion").get("terminated") or {})
        outputs = said.get("outputs")
        return outputs if isinstance(outputs, dict) else {}

    def _taken(self) -> Exit | None:
        """Where Kubernetes itself took it away."""
        if self._status.get("reason") == "Evicted":
            why = _plain(self._status.get("message") or "its node ran short")
            fix = "Give it more memory or disk, or use a larger machine."
            return Exit(None, None, "preempted", f"Kubernetes evicted it: {why}. {fix}", "Evicted")
        for one in self._status.get("conditions") or ():
            if one["type"] == "DisruptionTarget" and one["status"] == "True" and one.get("reason") in DISRUPTED:
                code, words = DISRUPTED[one["reason"]]
                return Exit(None, None, "preempted", f"{words} It is started again elsewhere if it may be.", code)
        if self._status.get("reason") == "NodeLost":
            words = "Its node was lost. It is started again elsewhere if it may be."
            return Exit(None, None, "preempted", words, "NodeLost")
        return None


def seconds_of(text: str) -> float:
    """Unix seconds of a time as Kubernetes writes it; 0 for what is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _plain(text: Any) -> str:
    return plain(str(text))[:MESSAGE_CHARACTERS].rstrip(". \n")


def _said(ended: dict[str, Any]) -> dict[str, Any]:
    """A container's last words, if they are ours."""
    try:
        content = json.loads(ended.get("message") or "")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _carried(ended: dict[str, Any]) -> Exit | None:
    said = _said(ended)
    if not isinstance(said.get("message"), str) or not said.get("failure"):
        return None
    return Exit(None, None, "error", said["message"][:MESSAGE_CHARACTERS], str(said["failure"])[:60])


def _exit_of(ended: dict[str, Any]) -> Exit:
    """The program's own word where it left one, else Kubernetes'."""
    code = int(ended.get("exitCode") or 0)
    if ended.get("reason") == "OOMKilled":
        return Exit(code, 9, "oom", MEMORY, "")
    said = _said(ended)
    reason = said.get("reason")
    if isinstance(reason, str) and reason in get_args(Reason):
        number = said.get("code") if isinstance(said.get("code"), int) else code
        signal = said.get("signal") if isinstance(said.get("signal"), int) else None
        failure = said.get("failure") if isinstance(said.get("failure"), str) else ""
        return Exit(
            number, signal, cast(Reason, reason), str(said.get("message") or "")[:MESSAGE_CHARACTERS], str(failure)[:60]
        )
    signal = code - 128 if 128 < code < 128 + 65 else None
    word: Literal["ok", "killed", "error"] = "ok" if code == 0 else "killed" if signal in (9, 15) else "error"
    message = "" if code == 0 else f"The program ended with exit code {code}. Its log says more."
    return Exit(code, signal, word, message)
