"""From the objects that a Kubernetes lists to what each placement is. Pure: no call, no clock of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apps.placements.observation import Exit, Observed, Rank, State, Stored
from workers.targets.kubernetes.manifests import GENERATION, PLACEMENT, STOPPED
from workers.targets.kubernetes.pods import Pod, seconds_of

UNSCHEDULABLE_SECONDS = 300.0
STOPPED_EXIT = Exit(None, 15, "killed", "It was stopped.")


@dataclass(frozen=True)
class Sight:
    """`scale`: of waiting times. `now`: unix seconds."""

    reach: str
    now: float
    scale: float = 1.0


def by_placement(items: Iterable[dict[str, Any]]) -> dict[str, list[Pod]]:
    """The pods of each placement: of a job by index, of a service the oldest first, and last what goes away or fell."""
    found: dict[str, list[Pod]] = {}
    for item in items:
        name = (item["metadata"].get("labels") or {}).get(PLACEMENT)
        if name:
            found.setdefault(name, []).append(Pod(item))
    for pods in found.values():
        pods.sort(key=lambda pod: (pod.index, pod.going or pod.ended, pod.created, pod.name))
    return found


def steady(pods: list[Pod], wanted: int, job: bool) -> bool:
    """Whether its pods alone say all there is to say: as many as are wanted, each at work and none going."""
    return len(pods) == wanted and all(not pod.going and (pod.running if job else pod.ready) for pod in pods)


def observe_job(name: str, pods: list[Pod], job: dict[str, Any] | None, sight: Sight, nodes: int) -> Observed:
    """`job`: its object; None where it was not asked for, or is not there (`nodes` pods are told by themselves)."""
    spec = (job or {}).get("spec") or {}
    generation = _generation(job)
    conditions = {
        one["type"]: one for one in ((job or {}).get("status") or {}).get("conditions") or () if one["status"] == "True"
    }
    over = bool(conditions.keys() & {"Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"})
    stopped, removed = bool(spec.get("suspend")), job is None or bool(job["metadata"].get("deletionTimestamp"))
    streams = _job_streams(pods)
    if not pods and not (over or stopped):
        return Observed("pending", generation, message="Its pods are being made.")
    if all(pod.ended for pod in pods) and (over or stopped or removed or len(pods) >= nodes):
        outputs, told = _outputs(pods), _job_exit(pods, conditions)
        times = {"exited": max((pod.exited_at for pod in pods), default="")}
        return Observed("exited", generation, (), outputs, told, streams, {k: v for k, v in times.items() if v})
    for pod in pods:
        problem = pod.stuck()
        waited = sight.now - seconds_of(pod.created)
        if problem and problem.reason == "Unschedulable" and waited > UNSCHEDULABLE_SECONDS * sight.scale:
            words = f"It waited {waited:.0f} s and does not begin with a part of its nodes. {problem.message}"
            return Observed("exited", generation, exit=Exit(None, None, "error", words, "Unschedulable"))
    message = next((problem.message for pod in pods if (problem := pod.stuck())), "")
    state: State = "running" if pods and all(pod.running or pod.ended for pod in pods) else "pending"
    ranks = tuple(Rank(pod.index, _word(pod), restarts=pod.restarts) for pod in pods)
    started = max((pod.started_at for pod in pods), default="")
    return Observed(
        state, generation, ranks, log_bytes=streams, times={"started": started} if started else {}, message=message
    )


def observe_service(name: str, pods: list[Pod], deployment: dict[str, Any] | None, sight: Sight) -> Observed:
    meta = (deployment or {}).get("metadata") or {}
    generation = _generation(deployment)
    if not pods and STOPPED in (meta.get("annotations") or {}):
        return Observed("exited", generation, exit=STOPPED_EXIT)
    ranks = []
    for ordinal, pod in enumerate(pods):
        address, port = pod.endpoint(name, sight.reach)
        problem = pod.stuck()
        message = problem.message if problem else pod.last_end() if pod.restarts and not pod.ready else ""
        ranks.append(Rank(ordinal, _word(pod), address, port, pod.restarts, message))
    streams: dict[str, int | None] = {
        str(ordinal): None for ordinal, pod in enumerate(pods) if pod.has_log("program") and not pod.going
    }
    state: State = "pending"
    if ranks and all(rank.state in ("ready", "draining") for rank in ranks):
        state = "ready" if any(rank.state == "ready" for rank in ranks) else "running"
    elif any(rank.state in ("ready", "running", "backoff") for rank in ranks):
        state = "running"
    message = next((rank.message for rank in ranks if rank.message), "") or _refused(deployment)
    return Observed(state, generation, tuple(ranks), log_bytes=streams, message=message)


def _generation(item: dict[str, Any] | None) -> int:
    text = str((((item or {}).get("metadata") or {}).get("annotations") or {}).get(GENERATION, "0"))
    return int(text) if text.isdecimal() else 0


def _refused(deployment: dict[str, Any] | None) -> str:
    """Why no pod could be made at all: a quota, or a policy of the namespace."""
    for one in ((deployment or {}).get("status") or {}).get("conditions") or ():
        if one["type"] == "ReplicaFailure" and one["status"] == "True":
            return f"The cluster lets no pod be made: {str(one.get('message') or '')[:500]}"
    return ""


def _word(pod: Pod) -> Any:
    if pod.ended:
        return "exited"
    if pod.going:
        return "draining"
    if pod.ready:
        return "ready"
    problem = pod.stuck()
    if problem and problem.reason == "CrashLoopBackOff":
        return "backoff"
    return "running" if pod.running else "starting"


def _job_streams(pods: list[Pod]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for pod in pods:
        if pod.has_log("program"):
            found[str(pod.index)] = None
        if pod.has_log("companion"):
            found[f"metrics-{pod.index}"] = None
    return found


def _outputs(pods: list[Pod]) -> dict[str, Stored]:
    found = {}
    for pod in pods:
        for name, stored in pod.outputs().items():
            try:
                found[name] = Stored(str(stored["sha256"]), int(stored["size_bytes"]))
            except (KeyError, TypeError, ValueError):
                continue
    return found


def _job_exit(pods: list[Pod], conditions: dict[str, Any]) -> Exit:
    """Of several pods the first that fell by itself tells; those that fell because it did were killed."""
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    if failed.get("reason") == "DeadlineExceeded":
        words = "It was not done within its time, which includes getting ready. Give it a longer deadline."
        return Exit(None, None, "deadline", words)
    if not pods:
        return Exit(None, None, "killed", "It was stopped before it began.") if not failed else STOPPED_EXIT
    told = [(pod.exit(), pod.exited_at) for pod in pods]
    bad = [one for one in told if one[0].reason != "ok"]
    if not bad:
        return told[0][0]
    return min(bad, key=lambda one: (one[0].reason == "killed", one[1] or "~"))[0]
