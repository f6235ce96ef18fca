"""A placement on a Kubernetes: made once, changed only in its copies, never revived, and gone when nothing is left."""

from __future__ import annotations

import json

import httpx
import pytest

from apps.placements.workload import Workload
from tests.targets.kubernetes.conftest import RUNNING, Cluster, containers, ended, name_of
from workers.targets import contract
from workers.targets.kubernetes import target as module
from workers.targets.kubernetes.target import Wanted

NAME = name_of(1)
JOB = Workload(NAME, "job", ("python", "-m", "x"))
SERVICE = Workload(NAME, "service", ("python",), replicas=3, ports=("http",))
JOBS = "/apis/batch/v1/namespaces/windlass/jobs"
DEPLOYMENTS = "/apis/apps/v1/namespaces/windlass/deployments"


def test_a_job_is_made_last_and_once(cluster: Cluster) -> None:
    cluster.apply(JOB)
    kinds = [path.split("/")[-2] for method, path in cluster.api.calls if method == "PATCH"]
    assert kinds == ["secrets", "services", "jobs", "configmaps"]
    cluster.api.calls.clear()
    cluster.apply(JOB)
    made = [path for method, path in cluster.api.calls if method == "PATCH" and "configmaps" not in path]
    assert [path.split("/")[-2] for path in made] == ["secrets", "jobs"]
    owner = cluster.api.objects[f"{JOBS}/{NAME}"]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == cluster.api.objects[f"/api/v1/namespaces/windlass/configmaps/{NAME}"]["metadata"]["uid"]


def test_its_namespace_is_made_where_it_is_missing(cluster: Cluster) -> None:
    del cluster.api.objects["/api/v1/namespaces/windlass"]
    cluster.apply(JOB)
    assert cluster.api.named("jobs") == [NAME]


def test_another_workload_and_an_older_generation_are_refused(cluster: Cluster) -> None:
    cluster.apply(JOB, 3)
    with pytest.raises(contract.Conflict, match="another workload"):
        cluster.apply(Workload(NAME, "job", ("python", "-m", "y")), 4)
    with pytest.raises(contract.Conflict, match="too late"):
        cluster.apply(JOB, 2)


def test_an_uploaded_script_is_refused(cluster: Cluster) -> None:
    with pytest.raises(contract.Refused, match="can't keep an uploaded script apart"):
        cluster.apply(Workload(NAME, "job", ("python",), trust="uploaded"))
    assert cluster.api.calls == []


@pytest.mark.parametrize("after", range(1, 6))
def test_an_apply_that_was_cut_off_is_repeated(cluster: Cluster, after: int) -> None:
    good = cluster.api.__call__
    left = [after]

    def cut(request: httpx.Request) -> httpx.Response:
        left[0] -= 1
        if left[0] < 0:
            raise httpx.ConnectError("cut")
        return good(request)

    cluster.target._there(cluster.place).client._http = httpx.Client(transport=httpx.MockTransport(cut))
    with pytest.raises(contract.Unavailable):
        cluster.apply(JOB)
    left[0] = 100
    cluster.apply(JOB)
    assert cluster.api.named("jobs") == [NAME]


def test_a_late_apply_does_not_revive_what_was_deleted(cluster: Cluster) -> None:
    cluster.apply(JOB)
    cluster.target.delete(cluster.place, NAME)
    assert [cluster.api.named(kind) for kind in ("jobs", "secrets", "services", "pods")] == [[], [], [], []]
    with pytest.raises(contract.Conflict, match="deleted"):
        cluster.apply(JOB, 9)
    assert cluster.api.named("jobs") == []
    cluster.target.delete(cluster.place, NAME)  # again is no error
    assert cluster.target.observe(cluster.place) == {}


def test_an_apply_under_way_while_it_is_deleted_takes_back_what_it_made(cluster: Cluster) -> None:
    create = cluster.target._create

    def meanwhile(*args: object) -> dict[str, object]:
        card = create(*args)  # type: ignore[arg-type]
        cluster.target._create = create  # type: ignore[method-assign]
        cluster.target.delete(cluster.place, NAME)
        return card

    cluster.target._create = meanwhile  # type: ignore[method-assign,assignment]
    with pytest.raises(contract.Conflict):
        cluster.apply(JOB)
    labels = cluster.api.objects[f"/api/v1/namespaces/windlass/configmaps/{NAME}"]["metadata"]["labels"]
    assert "windlass.dev/tombstone" in labels


def test_what_was_taken_away_by_hand_is_not_made_again(cluster: Cluster) -> None:
    cluster.apply(JOB)
    del cluster.api.objects[f"{JOBS}/{NAME}"]
    cluster.apply(JOB)
    assert cluster.target.observe(cluster.place) == {}


def test_the_highest_ordinals_go_first(cluster: Cluster) -> None:
    cluster.apply(SERVICE)
    pods = [cluster.api.pod(NAME, index, job=False, phase="Running") for index in range(3)]
    cluster.apply(Workload(NAME, "service", ("python",), replicas=1, ports=("http",)), 2)
    costs = [(pod["metadata"].get("annotations") or {}) for pod in map(cluster.api.objects.get, cluster_paths(pods))]  # type: ignore[union-attr]
    assert [bool(cost) for cost in costs] == [False, True, True]
    found = cluster.api.objects[f"{DEPLOYMENTS}/{NAME}"]
    assert (found["spec"]["replicas"], found["metadata"]["annotations"]["windlass.dev/generation"]) == (1, "2")


def cluster_paths(pods: list[dict[str, dict[str, str]]]) -> list[str]:
    return [f"/api/v1/namespaces/windlass/pods/{pod['metadata']['name']}" for pod in pods]


def test_a_stopped_job_gives_what_it_left(cluster: Cluster) -> None:
    cluster.apply(JOB)
    cluster.wanted = {NAME: Wanted("job", 1)}
    pod = cluster.api.pod(NAME, phase="Running", containerStatuses=containers(RUNNING))
    cluster.target.stop(cluster.place, NAME, 30)
    assert cluster.api.objects[f"{JOBS}/{NAME}"]["spec"]["suspend"] is True
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:02:00Z"
    assert cluster.target.observe(cluster.place)[NAME].state == "running"
    told = json.dumps({"code": None, "signal": 15, "reason": "killed", "message": "Stopped.", "failure": ""})
    said = json.dumps({"outputs": {"checkpoint": {"sha256": "ab", "size_bytes": 7}}})
    pod["status"] = {"phase": "Failed", "containerStatuses": containers(ended(143, told), ended(0, said))}
    seen = cluster.target.observe(cluster.place)[NAME]
    assert (seen.state, seen.exit.reason if seen.exit else "") == ("exited", "killed")
    assert seen.outputs["checkpoint"].size_bytes == 7
    assert seen.log_bytes == {"0": None, "metrics-0": None}
    cluster.target.delete(cluster.place, NAME)
    assert cluster.api.named("pods") == []


def test_a_stopped_service_has_exited_when_its_pods_are_gone(cluster: Cluster) -> None:
    cluster.apply(SERVICE)
    cluster.wanted = {NAME: Wanted("service", 3)}
    cluster.target.stop(cluster.place, NAME, 30)
    assert cluster.api.objects[f"{DEPLOYMENTS}/{NAME}"]["spec"]["replicas"] == 0
    assert cluster.target.observe(cluster.place)[NAME].state == "exited"
    cluster.apply(SERVICE, 2)  # renewing its grants does not start it again
    assert cluster.api.objects[f"{DEPLOYMENTS}/{NAME}"]["spec"]["replicas"] == 0


def test_a_grace_time_that_is_shorter_than_usual_is_told_to_the_pods(cluster: Cluster) -> None:
    cluster.apply(JOB)
    cluster.api.pod(NAME, phase="Failed")
    cluster.target.stop(cluster.place, NAME, 5)
    found = cluster.api.objects[f"/api/v1/namespaces/windlass/pods/{NAME}-0-abcde"]
    assert found["metadata"]["deletionTimestamp"] and found["metadata"]["finalizers"]  # it stays to be read


def test_delete_waits_for_the_pods(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    cluster.apply(JOB)
    pod = cluster.api.pod(NAME, phase="Running", containerStatuses=containers(RUNNING))
    with pytest.raises(contract.Unavailable, match="1 of its pods have not ended"):
        cluster.target.delete(cluster.place, NAME)
    pod["status"] = {"phase": "Failed"}
    cluster.target.delete(cluster.place, NAME)
    assert cluster.api.named("pods") == []


def test_a_beat_of_a_thousand_steady_placements_is_one_list(cluster: Cluster) -> None:
    names = [name_of(number) for number in range(1000)]
    ready = [{"type": "Ready", "status": "True"}]
    for name in names:
        cluster.api.pod(name, job=False, phase="Running", containerStatuses=containers(RUNNING), conditions=ready)
    cluster.wanted = dict.fromkeys(names, Wanted("service", 1))
    seen = cluster.target.observe(cluster.place)
    assert len(seen) == 1000 and all(one.state == "ready" for one in seen.values())
    assert cluster.api.calls == [("GET", "/api/v1/namespaces/windlass/pods")] * 2  # two pages of one list
    assert cluster.place.resource_version == "77"


def test_what_has_no_pod_yet_is_pending_and_not_gone(cluster: Cluster) -> None:
    cluster.apply(JOB)
    cluster.wanted = {NAME: Wanted("job", 1)}
    assert cluster.target.observe(cluster.place)[NAME].state == "pending"


def test_logs_go_on_where_they_ended(cluster: Cluster) -> None:
    pod = cluster.api.pod(NAME, phase="Running", containerStatuses=containers(RUNNING))
    cluster.api.logs = {f"{pod['metadata']['name']}/program": b"0123456789"}
    assert cluster.target.logs(cluster.place, NAME, "0", 4, 3) == contract.Chunk(b"456", 4, 7)
    assert cluster.target.logs(cluster.place, NAME, "0", 10, 3).data == b""
    with pytest.raises(FileNotFoundError):
        cluster.target.logs(cluster.place, NAME, "1", 0, 3)


def test_a_restarted_replicas_log_goes_on_behind_what_it_said_before(cluster: Cluster) -> None:
    pod = cluster.api.pod(NAME, job=False, phase="Running", containerStatuses=containers(RUNNING))
    cluster.api.logs = {f"{pod['metadata']['name']}/program": b"first"}
    first = cluster.target.logs(cluster.place, NAME, "0", 0, 100)
    later = {"running": {"startedAt": "2026-01-01T00:05:00Z"}}
    pod["status"]["containerStatuses"] = containers(later)
    cluster.api.logs = {f"{pod['metadata']['name']}/program": b"second"}
    second = cluster.target.logs(cluster.place, NAME, "0", first.next_offset, 100)
    assert (first.data, second.data) == (b"first", b"second")
    assert second.offset > first.next_offset


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(403, json={"message": "no"}), "lack the right to get pods"),
        (httpx.Response(401, json={}), "new kubeconfig"),
        (httpx.Response(429, json={}, headers={"Retry-After": "7"}), "in 7 seconds"),
        (httpx.Response(302, headers={"Location": "http://169.254.169.254/"}), "answered 302"),
        (httpx.Response(200, text="<html>"), "no JSON"),
        (httpx.ReadTimeout("slow"), "slow"),
    ],
)
def test_an_api_that_does_not_answer_well_says_nothing_of_placements(
    cluster: Cluster, answer: httpx.Response | Exception, says: str
) -> None:
    cluster.api.answers = [answer]
    with pytest.raises(contract.Unavailable, match=says):
        cluster.target.observe(cluster.place)
    assert len(cluster.api.calls) == 1
