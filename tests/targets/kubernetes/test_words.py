"""What became of pods is told in plain words: what happened, why, and what to do."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from apps.placements.observation import Observed
from tests.targets.kubernetes.conftest import RUNNING, Cluster, containers, ended, name_of
from workers.targets.kubernetes.target import Wanted

NAME = name_of(1)
JOBS = f"/apis/batch/v1/namespaces/windlass/jobs/{NAME}"


def job(cluster: Cluster, nodes: int = 1, **conditions: str) -> None:
    cluster.wanted = {NAME: Wanted("job", nodes)}
    labels = {
        "app.kubernetes.io/managed-by": "windlass",
        "windlass.dev/placement": NAME,
        "windlass.dev/installation": "inst",
    }
    found = [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions.items()]
    meta = {"name": NAME, "labels": labels, "annotations": {"windlass.dev/generation": "4"}}
    cluster.api.keep(JOBS, {"metadata": meta, "spec": {}, "status": {"conditions": found}})


def seen(cluster: Cluster) -> Observed:
    return cluster.target.observe(cluster.place)[NAME]


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (waiting("ImagePullBackOff", "Back-off pulling image"), r"can't be pulled: Back-off.*WINDLASS_IMAGE"),
        (waiting("ErrImagePull", "not found"), r"can't be pulled: not found"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), "can't be made.*start it again"),
        (waiting("RunContainerError", "no such device"), "does not start: no such device"),
    ],
)
def test_a_job_that_can_not_begin_says_why(cluster: Cluster, state: dict[str, Any], says: str) -> None:
    job(cluster)
    cluster.api.pod(NAME, phase="Pending", containerStatuses=containers(state))
    found = seen(cluster)
    assert (found.state, found.generation) == ("pending", 4)
    assert re.search(says, found.message)


def unschedulable(created: float) -> dict[str, Any]:
    why = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes: 3 Insufficient cpu.",
    }
    return {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)), "condition": why}


@pytest.mark.parametrize(("age", "state"), [(10, "pending"), (400, "exited")])
def test_a_job_begins_with_all_its_nodes_or_ends_as_a_whole(cluster: Cluster, age: float, state: str) -> None:
    job(cluster, nodes=2)
    cluster.api.pod(NAME, 0, phase="Running", containerStatuses=containers(RUNNING))
    late = unschedulable(time.time() - age)
    pod = cluster.api.pod(NAME, 1, phase="Pending", conditions=[late["condition"]])
    pod["metadata"]["creationTimestamp"] = late["created"]
    found = seen(cluster)
    words = found.exit.message if found.exit else found.message
    assert found.state == state
    assert "3 Insufficient cpu. Ask for less" in words
    assert not found.exit or found.exit.failure == "Unschedulable"


def told(**exit: Any) -> str:
    return json.dumps({"code": 1, "signal": None, "reason": "error", "message": "", "failure": "", **exit})


def test_the_node_that_fell_by_itself_tells_why(cluster: Cluster) -> None:
    job(cluster, 2, Failed="BackoffLimitExceeded")
    killed = told(reason="killed", signal=15, message="It was stopped.")
    cluster.api.pod(NAME, 0, phase="Failed", containerStatuses=containers(ended(143, killed), ended(0, "{}")))
    mine = told(message="Diverged at step 3.", failure="Diverged")
    cluster.api.pod(NAME, 1, phase="Failed", containerStatuses=containers(ended(1, mine), ended(0, "{}")))
    found = seen(cluster)
    assert found.exit and (found.exit.failure, found.exit.message) == ("Diverged", "Diverged at step 3.")


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        ({"containerStatuses": containers(ended(137, "", "OOMKilled"), ended())}, "oom", "more memory"),
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, "preempted", "low on resource"),
        ({"containerStatuses": containers(ended(3, "no json"), ended())}, "error", "exit code 3"),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            "preempted",
            "higher priority",
        ),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]},
            "preempted",
            "node is gone",
        ),
        (
            {
                "initContainerStatuses": [
                    {"name": "carry-in", "state": ended(1, '{"failure": "InputDamaged", "message": "Damaged."}')}
                ]
            },
            "error",
            "Damaged",
        ),
        (
            {
                "containerStatuses": containers(
                    ended(0, told(reason="ok", code=0)),
                    ended(1, '{"failure": "OutputMissing", "message": "It wrote no model."}'),
                )
            },
            "error",
            "wrote no model",
        ),
    ],
)
def test_how_a_job_ended(cluster: Cluster, status: dict[str, Any], reason: str, says: str) -> None:
    job(cluster, Failed="BackoffLimitExceeded")
    cluster.api.pod(NAME, phase="Failed", **status)
    found = seen(cluster)
    assert found.state == "exited"
    assert found.exit and found.exit.reason == reason and says in found.exit.message


def test_a_deadline_is_told_as_one(cluster: Cluster) -> None:
    job(cluster, Failed="DeadlineExceeded")
    found = seen(cluster)
    assert found.exit and found.exit.reason == "deadline"


def test_a_job_that_did_well(cluster: Cluster) -> None:
    job(cluster, Complete="CompletionsReached")
    said = json.dumps({"outputs": {"m": {"sha256": "ab", "size_bytes": 3}, "bad": 7}})
    cluster.api.pod(
        NAME, phase="Succeeded", containerStatuses=containers(ended(0, told(reason="ok", code=0)), ended(0, said))
    )
    found = seen(cluster)
    assert found.exit and found.exit.reason == "ok" and set(found.outputs) == {"m"}


def test_replicas_have_the_addresses_of_their_pods_and_the_youngest_is_the_last(cluster: Cluster) -> None:
    ready = [{"type": "Ready", "status": "True"}]
    cluster.wanted = {NAME: Wanted("service", 2)}
    cluster.api.pod(
        NAME, 1, False, phase="Running", podIP="10.1.0.2", conditions=ready, containerStatuses=containers(RUNNING)
    )
    cluster.api.pod(
        NAME, 0, False, phase="Running", podIP="10.1.0.1", conditions=ready, containerStatuses=containers(RUNNING)
    )
    found = seen(cluster)
    assert found.state == "ready" and found.ready_ordinals == (0, 1)
    assert [(rank.address, rank.port) for rank in found.ranks] == [("10.1.0.1", 8080), ("10.1.0.2", 8080)]


def test_a_replica_that_was_evicted_leaves_its_place_to_the_one_that_stands_for_it(cluster: Cluster) -> None:
    ready = [{"type": "Ready", "status": "True"}]
    cluster.wanted = {NAME: Wanted("service", 1)}
    cluster.api.pod(NAME, 0, False, phase="Failed", reason="Evicted")
    cluster.api.pod(
        NAME, 1, False, phase="Running", podIP="10.1.0.2", conditions=ready, containerStatuses=containers(RUNNING)
    )
    found = seen(cluster)
    assert found.ready_ordinals == (0,)
    assert found.ranks[0].address == "10.1.0.2"


def test_a_replica_that_falls_again_and_again_says_how(cluster: Cluster) -> None:
    cluster.wanted = {NAME: Wanted("service", 1)}
    last = {"lastState": ended(1, told(message="No such model."))}
    statuses = containers(waiting("CrashLoopBackOff"), None, restartCount=4, **last)
    cluster.api.pod(NAME, 0, False, phase="Running", containerStatuses=statuses)
    rank = seen(cluster).ranks[0]
    assert (rank.state, rank.restarts) == ("backoff", 4)
    assert "No such model." in rank.message
