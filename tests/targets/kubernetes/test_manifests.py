"""What is made of a workload is valid for the newest Kubernetes, and gives a program no more than it needs."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from apps.placements.workload import Input, Output, Probe, Resources, Workload
from workers.targets.contract import Grants
from workers.targets.kubernetes import manifests
from workers.targets.kubernetes.manifests import Surroundings

AROUND = Surroundings("windlass", "inst", "windlass:1", "pods", "uid-1")
JOB = Workload("plc-" + "a" * 26, "job", ("python", "-m", "x"), resources=Resources(2, 4 * 1024**3))
WORKLOADS = {
    "job": JOB,
    "two nodes": Workload(JOB.name, "job", JOB.argv, nodes=2, network="peers", deadline_seconds=90.5),
    "gpu": Workload(JOB.name, "job", JOB.argv, resources=Resources(3.3, 1024**3, 2)),
    "files": Workload(
        JOB.name,
        "job",
        JOB.argv,
        secrets=("token",),
        inputs=(Input("data", "blb_x", "0" * 64, 10**9, "tree"),),
        outputs=(Output("model", "blb_y"),),
    ),
    "service": Workload(JOB.name, "service", JOB.argv, replicas=3, ports=("http",), probe=Probe("/ready")),
    "service without probe": Workload(JOB.name, "service", JOB.argv, ports=("http",)),
}


def versions() -> list[str]:
    newest = kubernetes_validate.latest_version()
    major, minor = newest.split(".")[:2]
    return [f"{major}.{minor}", f"{major}.{int(minor) - 1}"]


def everything(workload: Workload, around: Surroundings = AROUND) -> list[dict[str, Any]]:
    secrets = dict.fromkeys(workload.secrets, b"s3cret")
    grants = Grants(replica_address="https://w/replicas/x" if workload.kind == "service" else "")
    return [manifests.secret(workload, 1, secrets, grants, around), *manifests.others(workload, 1, around)]


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("reach", ["pods", "nodes"])
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_every_object_is_valid(workload: Workload, reach: str, version: str) -> None:
    found = everything(workload, Surroundings("windlass", "inst", "windlass:1", reach, "uid-1"))
    for item in found:
        kubernetes_validate.validate(item, version, strict=True)
    assert len(found) == (3 if workload.kind == "job" else 4)


def template(workload: Workload) -> dict[str, Any]:
    found: dict[str, Any] = everything(workload)[-1]["spec"]["template"]
    return found


def test_the_program_sees_its_own_folders_and_no_grants() -> None:
    program, companion = template(WORKLOADS["files"])["spec"]["containers"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in program["volumeMounts"]}
    assert mounts == {
        "/work/in": True,
        "/work/live": True,
        "/work/secrets": True,
        "/work/out": False,
        "/work/metrics": False,
        "/work/state": False,
        "/work/tmp": False,
        "/dev/shm": False,
    }
    assert "/windlass" in [mount["mountPath"] for mount in companion["volumeMounts"]]


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_every_container_is_held_down(workload: Workload) -> None:
    spec = template(workload)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]
    for container in (*spec["initContainers"], *spec["containers"]):
        held = container["securityContext"]
        assert held["readOnlyRootFilesystem"] and not held["allowPrivilegeEscalation"]
        assert held["capabilities"] == {"drop": ["ALL"]}
        assert "limits" in container["resources"]


def test_resources_of_a_job_are_shared_out_over_its_nodes() -> None:
    two = Workload(JOB.name, "job", JOB.argv, nodes=2, resources=Resources(4, 8 * 1024**3, 2))
    program = template(two)["spec"]["containers"][0]["resources"]
    assert program["limits"] == {"cpu": "2000m", "memory": str(4 * 1024**3), "nvidia.com/gpu": "1"}
    assert program["requests"] == program["limits"]


def test_secrets_are_nowhere_but_in_the_secret() -> None:
    first, *rest = everything(WORKLOADS["files"])
    assert "secret.token" in first["data"]
    assert "s3cret" not in str(rest) and "czNjcmV0" not in str(rest)


def test_a_jobs_pods_stay_to_be_read_and_fail_together() -> None:
    job = everything(WORKLOADS["two nodes"])[-1]
    assert job["spec"]["template"]["metadata"]["finalizers"] == ["windlass.dev/kept"]
    assert (job["spec"]["backoffLimit"], job["spec"]["completions"], job["spec"]["parallelism"]) == (0, 2, 2)
    assert job["spec"]["template"]["spec"]["subdomain"] == JOB.name
    assert "finalizers" not in template(WORKLOADS["service"])["metadata"]


def test_the_number_of_replicas_changes_nothing_of_the_pods() -> None:
    more = Workload(JOB.name, "service", JOB.argv, replicas=7, ports=("http",), probe=Probe("/ready"))
    assert template(more) == template(WORKLOADS["service"])
