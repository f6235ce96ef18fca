"""A workload as the objects of Kubernetes that make it so. Pure: the same values give the same objects."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from apps.placements.workload import Workload
from workers.targets.contract import Grants

KEPT = "windlass.dev/kept"
PLACEMENT, INSTALLATION = "windlass.dev/placement", "windlass.dev/installation"
GENERATION, DIGEST, STOPPED = "windlass.dev/generation", "windlass.dev/digest", "windlass.dev/stopped"
TOMBSTONE, COST = "windlass.dev/tombstone", "controller.kubernetes.io/pod-deletion-cost"
PORT, FIRST_NODE_PORT, NODE_PORTS = 8080, 20_000, 10_000
USER = 10_001
CARRYING_SECONDS = 60
GETTING_READY_SECONDS = 900
PROGRAMS = "workers.targets.kubernetes.pod"
FOLDERS = {"in": True, "live": True, "secrets": True, "out": False, "metrics": False, "state": False, "tmp": False}
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class Surroundings:
    """`owner`: uid of the ConfigMap that everything belongs to, so that nothing outlives it."""

    namespace: str
    installation: str
    image: str
    reach: str
    owner: str = ""


def labels(name: str, installation: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "windlass", PLACEMENT: name, INSTALLATION: installation}


def node_port(name: str) -> int:
    """The one port of a machine by which its replica of this placement is reached."""
    return FIRST_NODE_PORT + int(hashlib.sha256(name.encode()).hexdigest(), 16) % NODE_PORTS


def metadata(workload: Workload, generation: int, around: Surroundings) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": workload.name,
        "namespace": around.namespace,
        "labels": labels(workload.name, around.installation),
        "annotations": {GENERATION: str(generation), DIGEST: workload.digest},
    }
    if around.owner:
        found["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": workload.name, "uid": around.owner}
        ]
    return found


def secret(
    workload: Workload, generation: int, secrets: dict[str, bytes], grants: Grants, around: Surroundings
) -> dict[str, Any]:
    content = {"workload.json": json.dumps(workload.to_json()).encode(), "grants.json": grants.to_json()}
    if grants.replica_address:
        content["replica.json"] = json.dumps({"url": grants.replica_address}).encode()
    content |= {f"secret.{name}": secrets[name] for name in workload.secrets}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(workload, generation, around),
        "type": "Opaque",
        "data": {name: base64.b64encode(value).decode() for name, value in content.items()},
    }


def others(workload: Workload, generation: int, around: Surroundings) -> list[dict[str, Any]]:
    """All but the Secret, in the order in which they are made: what runs comes last."""
    own = metadata(workload, generation, around)
    selector = {PLACEMENT: workload.name}
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": own,
        "spec": {"selector": selector, "ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
    }
    if workload.kind == "job":
        service["spec"] = {"selector": selector, "clusterIP": "None", "publishNotReadyAddresses": True}
        return [service, _job(workload, own, around)]
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": own,
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector}},
    }
    return [service, budget, _deployment(workload, own, around)]


def _job(workload: Workload, own: dict[str, Any], around: Surroundings) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": workload.nodes,
        "parallelism": workload.nodes,
        "backoffLimit": 0,
        "template": _template(workload, around),
    }
    if workload.deadline_seconds is not None:
        # `pod run` keeps the deadline of the program itself; this one is for pods that never come so far.
        spec["activeDeadlineSeconds"] = math.ceil(workload.deadline_seconds) + GETTING_READY_SECONDS
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": own, "spec": spec}


def _deployment(workload: Workload, own: dict[str, Any], around: Surroundings) -> dict[str, Any]:
    spec = {
        "replicas": workload.replicas,
        "selector": {"matchLabels": {PLACEMENT: workload.name}},
        "strategy": {"type": "Recreate"},  # its template never changes: a new revision is a new placement
        "progressDeadlineSeconds": GETTING_READY_SECONDS,
        "revisionHistoryLimit": 0,
        "template": _template(workload, around),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": own, "spec": spec}


def _template(workload: Workload, around: Surroundings) -> dict[str, Any]:
    job = workload.kind == "job"
    found: dict[str, Any] = {"labels": labels(workload.name, around.installation)}
    if job:
        found["finalizers"] = [KEPT]  # a pod that ended stays to be read until we have read it
    spec: dict[str, Any] = {
        "restartPolicy": "Never" if job else "Always",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(workload.grace_seconds) + CARRYING_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_ours(workload, around, "carry-in", "carry-in")],
        "containers": [_program(workload, around), _ours(workload, around, "companion", "accompany")],
        "volumes": _volumes(workload),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {PLACEMENT: workload.name}},
            }
        ],
    }
    if job:
        spec["subdomain"] = workload.name
    if workload.resources.gpus:
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {"metadata": found, "spec": spec}


def _volumes(workload: Workload) -> list[dict[str, Any]]:
    share = _share(workload)
    carried = sum(item.size_bytes for item in workload.inputs)
    disk, memory = (
        workload.resources.disk_bytes // share + 2 * carried + 2**30,
        workload.resources.memory_bytes // share,
    )
    return [
        {"name": "work", "emptyDir": {"sizeLimit": str(disk)}},
        {"name": "grants", "secret": {"secretName": workload.name, "defaultMode": 0o440}},
        # torch's loaders share tensors by it; its pages count as the program's memory
        {"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": str(memory)}},
    ]


def _share(workload: Workload) -> int:
    return max(1, workload.nodes) if workload.kind == "job" else 1


def _container(around: Surroundings, name: str, program: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": around.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", PROGRAMS, program],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _environment(workload: Workload, *more: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "WINDLASS_WORK", "value": "/work"},
        {"name": "WINDLASS_TERMINATION_LOG", "value": "/dev/termination-log"},
        _told("WINDLASS_POD", "metadata.name"),
        *more,
    ]
    if workload.kind == "job":
        found.append(_told("WINDLASS_NODE_RANK", f"metadata.annotations['{INDEX}']"))
    return found


def _told(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _ours(workload: Workload, around: Surroundings, name: str, program: str) -> dict[str, Any]:
    """One of our own two: it sees the grants and the whole of /work, and costs little but when it carries."""
    return {
        **_container(around, name, program),
        "env": _environment(workload, {"name": "WINDLASS_GRANTS", "value": "/windlass"}),
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "volumeMounts": [
            {"name": "work", "mountPath": "/work"},
            {"name": "grants", "mountPath": "/windlass", "readOnly": True},
        ],
    }


def _program(workload: Workload, around: Surroundings) -> dict[str, Any]:
    share, has = _share(workload), workload.resources
    amounts = {"cpu": f"{math.ceil(has.cpus * 1000 / share)}m", "memory": str(has.memory_bytes // share)}
    if has.gpus:
        amounts["nvidia.com/gpu"] = str(math.ceil(has.gpus / share))
    mounts: list[dict[str, Any]] = [
        {"name": "work", "mountPath": f"/work/{folder}", "subPath": folder, "readOnly": closed}
        for folder, closed in FOLDERS.items()
    ]
    found = {
        **_container(around, "program", "run"),
        "env": _environment(workload, _told("WINDLASS_ADDRESS", "status.podIP")),
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "volumeMounts": [*mounts, {"name": "shared", "mountPath": "/dev/shm"}],  # noqa: S108 - a mount of its own
    }
    if workload.kind == "service":
        found["env"].append({"name": "WINDLASS_PORT", "value": str(PORT)})
        port: dict[str, Any] = {"name": "http", "containerPort": PORT}
        if around.reach == "nodes":
            port["hostPort"] = node_port(workload.name)
        found["ports"] = [port]
        found |= _probes(workload)
    return found


def _probes(workload: Workload) -> dict[str, Any]:
    probe = workload.probe
    if probe is None:
        return {}
    asked = {
        "httpGet": {"path": probe.path, "port": PORT},
        "periodSeconds": max(1, round(probe.period_seconds)),
        "timeoutSeconds": max(1, round(probe.timeout_seconds)),
    }
    return {
        "startupProbe": {**asked, "failureThreshold": GETTING_READY_SECONDS},
        "readinessProbe": {**asked, "failureThreshold": 3},
        "livenessProbe": {**asked, "periodSeconds": 5, "failureThreshold": 10},
    }
