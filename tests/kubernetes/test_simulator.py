"""The simulator itself: what the tests of the target rely on must be so there as in a real Kubernetes."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest

from apps.core.certificates import make_authority
from tests.clouds.kubernetes.simulator import Kubernetes
from tests.kubernetes.conftest import until

PODS = "/api/v1/namespaces/default/pods"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.fixture
def http(kube: Kubernetes) -> httpx.Client:
    context = ssl.create_default_context(cadata=kube.authority.certificate)
    return httpx.Client(base_url=kube.server, verify=context, headers={"authorization": f"Bearer {kube.token}"})


def container(*command: str, name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "x", "command": list(command), **more}


def template(*containers: dict[str, Any], policy: str = "Never", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": policy, "containers": containers, **spec}}


def apply(http: httpx.Client, path: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    body = {"kind": kind, "metadata": {"name": path.rpartition("/")[2], "labels": {"app": "x"}}, "spec": spec}
    headers = {"content-type": "application/apply-patch+yaml"}
    answer = http.patch(f"{path}?fieldManager=test&force=true", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_only_those_it_knows_are_let_in(kube: Kubernetes, http: httpx.Client) -> None:
    assert http.get("/api/v1/nodes").json()["items"][0]["metadata"]["name"] == "node-1"
    assert http.get("/api/v1/nodes", headers={"authorization": "Bearer other"}).status_code == 401
    stranger = ssl.create_default_context(cadata=make_authority("another").certificate)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{kube.server}/api/v1/nodes", verify=stranger)


def test_applying_again_changes_nothing_and_leaving_out_removes(http: httpx.Client) -> None:
    path = f"{DEPLOYMENTS}/web"
    spec = {"replicas": 0, "paused": True, "template": template(container("true"))}
    first = apply(http, path, "Deployment", spec)
    assert apply(http, path, "Deployment", spec)["metadata"]["generation"] == first["metadata"]["generation"]
    del spec["paused"]
    changed = apply(http, path, "Deployment", spec)
    assert "paused" not in changed["spec"]
    assert changed["metadata"]["generation"] == first["metadata"]["generation"] + 1
    merge = {"content-type": "application/merge-patch+json"}
    assert http.patch(path, json={"metadata": {"uid": "another"}}, headers=merge).status_code == 409
    assert http.patch(f"{path}-x", json={}, headers=merge).status_code == 404


def test_one_failing_pod_ends_a_job_and_all_its_pods(kube: Kubernetes, http: httpx.Client) -> None:
    words = 'test "$INDEX" = 1 && { echo bad; exit 3; }; sleep 60'
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    env = [{"name": "INDEX", "valueFrom": index}]
    spec = {"completions": 2, "backoffLimit": 0, "template": template(container("sh", "-c", words, env=env))}
    apply(http, f"{JOBS}/two", "Job", spec)
    until(lambda: "Failed" in http.get(f"{JOBS}/two").text and "BackoffLimitExceeded" in http.get(f"{JOBS}/two").text)
    until(lambda: len(kube.objects("pods")) == 1)
    (pod,) = kube.objects("pods")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    log = http.get(f"{PODS}/{pod['metadata']['name']}/log?container=main")
    assert log.text == "bad\n"
    http.request("DELETE", f"{JOBS}/two", json={"propagationPolicy": "Foreground"})
    until(lambda: kube.objects("pods") == kube.objects("jobs") == [])


def test_a_finalizer_keeps_a_pod_that_ended_to_be_read(kube: Kubernetes, http: httpx.Client) -> None:
    spec = {"completions": 1, "backoffLimit": 0, "template": template(container("sleep", "60"))}
    spec["template"]["metadata"]["finalizers"] = ["example.org/kept"]
    apply(http, f"{JOBS}/kept", "Job", spec)
    until(lambda: [pod["status"]["phase"] for pod in kube.objects("pods")] == ["Running"])
    merge = {"content-type": "application/merge-patch+json"}
    http.patch(f"{JOBS}/kept", json={"spec": {"suspend": True}}, headers=merge)
    until(lambda: [pod["status"]["phase"] for pod in kube.objects("pods")] == ["Failed"])
    (pod,) = kube.objects("pods")
    assert pod["metadata"]["deletionTimestamp"]
    http.patch(f"{PODS}/{pod['metadata']['name']}", json={"metadata": {"finalizers": []}}, headers=merge)
    until(lambda: kube.objects("pods") == [])


def test_the_cheapest_replica_goes_first_and_one_that_falls_starts_again(kube: Kubernetes, http: httpx.Client) -> None:
    spec = {"replicas": 2, "template": template(container("sleep", "60"), policy="Always")}
    apply(http, f"{DEPLOYMENTS}/web", "Deployment", spec)

    def ready() -> list[str]:
        pods = kube.objects("pods")
        return [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"]

    until(lambda: len(ready()) == 2)
    older, younger = sorted(ready(), key=lambda name: kube.objects("pods")[0]["metadata"]["name"] != name)
    merge = {"content-type": "application/merge-patch+json"}
    cost = {"controller.kubernetes.io/pod-deletion-cost": "-5"}
    http.patch(f"{PODS}/{older}", json={"metadata": {"annotations": cost}}, headers=merge)
    http.patch(f"{DEPLOYMENTS}/web", json={"spec": {"replicas": 1}}, headers=merge)
    until(lambda: [pod["metadata"]["name"] for pod in kube.objects("pods")] == [younger])
    kube.oom(younger, "main")
    until(lambda: kube.objects("pods")[0]["status"]["containerStatuses"][0]["restartCount"] == 1)
    last = kube.objects("pods")[0]["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["reason"], last["exitCode"]) == ("OOMKilled", 137)


def test_long_lists_come_in_pages(http: httpx.Client) -> None:
    for number in range(5):
        body = {"metadata": {"name": f"c{number}", "labels": {"half": str(number % 2)}}}
        assert http.post("/api/v1/namespaces/default/configmaps", json=body).status_code == 201
    page = http.get("/api/v1/namespaces/default/configmaps?limit=2&labelSelector=half=0").json()
    assert [item["metadata"]["name"] for item in page["items"]] == ["c0", "c2"]
    rest = http.get(
        f"/api/v1/namespaces/default/configmaps?limit=2&labelSelector=half=0&continue={page['metadata']['continue']}"
    )
    assert [item["metadata"]["name"] for item in rest.json()["items"]] == ["c4"]
    assert http.post("/api/v1/namespaces/nowhere/configmaps", json={"metadata": {"name": "c"}}).status_code == 404
