"""The controllers that we meet: Jobs, Deployments, the scheduler, and the collection of what has no owner."""

from __future__ import annotations

import copy
import secrets
import string
from typing import Any

from tests.clouds.kubernetes.kubelet import quantity
from tests.clouds.kubernetes.store import Key, Store, now

INDEX = "batch.kubernetes.io/job-completion-index"
COST = "controller.kubernetes.io/pod-deletion-cost"
ENDED = ("Succeeded", "Failed")


def key_of(plural: str, item: dict[str, Any]) -> Key:
    return plural, item["metadata"].get("namespace", ""), item["metadata"]["name"]


class Controllers:
    def __init__(self, simulator: Any) -> None:
        self.simulator = simulator
        self.store: Store = simulator.store

    def turn(self) -> None:
        for job in self.store.all("jobs"):
            if not job["metadata"].get("deletionTimestamp"):
                self._job(job)
        for deployment in self.store.all("deployments"):
            if not deployment["metadata"].get("deletionTimestamp"):
                self._deployment(deployment)
        self._collect()
        for pod in self.store.all("pods"):
            if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
                self._schedule(pod)

    def _owned(self, owner: dict[str, Any]) -> list[dict[str, Any]]:
        return [item for key, item in self.store.dependents(owner["metadata"]["uid"]) if key[0] == "pods"]

    def _delete(self, pod: dict[str, Any]) -> None:
        if not pod["metadata"].get("deletionTimestamp"):
            self.store.delete(key_of("pods", pod), {})

    def _make(self, owner: dict[str, Any], kind: str, name: str, index: int | None = None) -> None:
        template = copy.deepcopy(owner["spec"]["template"])
        meta, spec = template["metadata"], template["spec"]
        meta["ownerReferences"] = [
            {"kind": kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": True}
        ]
        if index is not None:
            spec["hostname"] = f"{owner['metadata']['name']}-{index}"
            meta.setdefault("annotations", {})[INDEX] = str(index)
            meta["labels"][INDEX] = str(index)
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {"phase": "Pending"}}
        self.store.create(("pods", owner["metadata"]["namespace"], name), body)

    def _job(self, job: dict[str, Any]) -> None:
        key, spec, status = key_of("jobs", job), job["spec"], job.get("status", {})
        pods = self._owned(job)
        if any(one["type"] in ("Complete", "Failed") for one in status.get("conditions", ())):
            return
        if spec.get("suspend"):
            for pod in pods:
                if pod["status"].get("phase") not in ENDED:
                    self._delete(pod)
            self.store.status(key, active=0, conditions=[{"type": "Suspended", "status": "True"}])
            return
        phases = [pod["status"].get("phase", "Pending") for pod in pods]
        lost = [
            pod for pod in pods if pod["metadata"].get("deletionTimestamp") and pod["status"]["phase"] != "Succeeded"
        ]
        failed = max(phases.count("Failed"), len(lost))
        if failed > spec.get("backoffLimit", 6):
            for pod in pods:
                if pod["status"].get("phase") not in ENDED:
                    self._delete(pod)
            words = "Job has reached the specified backoff limit"
            ending = {"status": "True", "reason": "BackoffLimitExceeded", "message": words}
            self.store.status(key, active=0, failed=failed, conditions=[{"type": "Failed", **ending}])
            return
        done = {pod["metadata"]["annotations"][INDEX] for pod in pods if pod["status"].get("phase") == "Succeeded"}
        if len(done) == spec["completions"]:
            conditions = [{"type": "Complete", "status": "True"}]
            self.store.status(key, active=0, succeeded=len(done), conditions=conditions, completionTime=now())
            return
        there = {pod["metadata"]["annotations"][INDEX] for pod in pods}
        for index in range(spec["completions"]):
            if str(index) not in there:
                self._make(job, "Job", f"{key[2]}-{index}-{_suffix()}", index)
        self.store.status(
            key, active=len(pods) - len(done), succeeded=len(done), startTime=status.get("startTime", now())
        )

    def _deployment(self, deployment: dict[str, Any]) -> None:
        key, wanted = key_of("deployments", deployment), deployment["spec"].get("replicas", 1)
        pods = [
            pod
            for pod in self._owned(deployment)
            if not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") not in ENDED
        ]
        for _missing in range(wanted - len(pods)):
            self._make(deployment, "Deployment", f"{key[2]}-7d9f8c6b5-{_suffix()}")
        for pod in sorted(pods, key=_first_to_go)[: max(0, len(pods) - wanted)]:
            self._delete(pod)
        ready = sum(_ready(pod) for pod in pods)
        self.store.status(
            key,
            observedGeneration=deployment["metadata"]["generation"],
            replicas=len(pods),
            readyReplicas=ready,
            availableReplicas=ready,
            updatedReplicas=len(pods),
        )

    def _schedule(self, pod: dict[str, Any]) -> None:
        wants = {"cpu": _asked(pod, "cpu"), "memory": _asked(pod, "memory")}
        why = self.simulator.faults.unschedulable
        for node in self.store.all("nodes"):
            name = node["metadata"]["name"]
            if name in self.simulator.lost:
                why = (
                    why
                    or "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }."
                )
                continue
            living = [one for one in self.store.all("pods") if one["spec"].get("nodeName") == name]
            living = [one for one in living if one["status"].get("phase") not in ENDED]
            short = [
                unit
                for unit, amount in wants.items()
                if sum(_asked(one, unit) for one in living) + amount > quantity(node["status"]["allocatable"][unit])
            ]
            if not short and not why:
                new = {**pod, "spec": {**pod["spec"], "nodeName": name}}
                self.store.keep(key_of("pods", pod), new)
                return
            why = why or f"0/1 nodes are available: 1 Insufficient {short[0]}."
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
        self.store.status(key_of("pods", pod), conditions=[condition])

    def _collect(self) -> None:
        alive = {item["metadata"]["uid"] for item in self.store.objects.values()}
        for key, item in list(self.store.objects.items()):
            owners = item["metadata"].get("ownerReferences", ())
            orphaned = owners and not any(owner["uid"] in alive for owner in owners)
            if orphaned and not item["metadata"].get("deletionTimestamp"):
                self.store.delete(key, {})
            if "foregroundDeletion" in item["metadata"].get("finalizers", ()):
                below = self.store.dependents(item["metadata"]["uid"])
                for inner, one in below:
                    if not one["metadata"].get("deletionTimestamp"):
                        self.store.delete(inner, {})
                if not below:
                    rest = [name for name in item["metadata"]["finalizers"] if name != "foregroundDeletion"]
                    self.store.keep(key, {**item, "metadata": {**item["metadata"], "finalizers": rest}})


def _suffix() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))


def _ready(pod: dict[str, Any]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


def _first_to_go(pod: dict[str, Any]) -> tuple[Any, ...]:
    """As a ReplicaSet ranks them: what has no node, is not ready, is cheap; then the youngest."""
    cost = int(pod["metadata"].get("annotations", {}).get(COST, 0))
    return bool(pod["spec"].get("nodeName")), _ready(pod), cost, -int(pod["metadata"]["resourceVersion"])


def _asked(pod: dict[str, Any], unit: str) -> float:
    return sum(
        quantity(one.get("resources", {}).get("requests", {}).get(unit, "0")) for one in pod["spec"]["containers"]
    )
