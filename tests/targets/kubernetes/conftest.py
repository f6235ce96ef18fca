"""An API server of a few lines, without controllers: it keeps objects, and a test says what became of their pods."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from apps.placements.models import Placement
from apps.placements.workload import Workload
from workers.targets.contract import Grants
from workers.targets.kubernetes.access import Access
from workers.targets.kubernetes.client import Client
from workers.targets.kubernetes.target import KubernetesTarget, Wanted

SHA = "0" * 64


class Api:
    """`objects` by path. `calls`: (method, path) of each request. `answers`: what to answer instead, in order."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"/api/v1/namespaces/windlass": {"metadata": {"name": "windlass"}}}
        self.calls: list[tuple[str, str]] = []
        self.answers: list[httpx.Response | Exception] = []
        self.logs: dict[str, bytes] = {}
        self.page = 10_000
        self._count = itertools.count(1)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path, dict(parse_qsl(request.url.query.decode()))
        self.calls.append((request.method, path))
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        body = json.loads(request.content) if request.content else {}
        if path.endswith("/log"):
            data = self.logs[f"{path.split('/')[-2]}/{query['container']}"]
            return httpx.Response(200, content=data[: int(query["limitBytes"])])
        return getattr(self, f"_{request.method.lower()}")(path, query, body)

    def _get(self, path: str, query: dict[str, str], _body: Any) -> httpx.Response:
        if path in self.objects:
            return httpx.Response(200, json=self.objects[path])
        if path.split("/")[-2] in ("pods", "configmaps", "jobs", "deployments"):
            return httpx.Response(404, json={"message": f"{path} not found"})
        wanted = query.get("labelSelector", "").split(",")
        items = [item for at, item in sorted(self.objects.items()) if at.rpartition("/")[0] == path]
        items = [item for item in items if all(_fits(item, term) for term in wanted if term)]
        begins = int(query.get("continue", 0))
        ends = begins + min(self.page, int(query.get("limit", 500)))
        meta = {"resourceVersion": "77", **({"continue": str(ends)} if ends < len(items) else {})}
        return httpx.Response(200, json={"metadata": meta, "items": items[begins:ends]})

    def _post(self, path: str, _query: Any, body: dict[str, Any]) -> httpx.Response:
        if path.rpartition("/")[0] not in self.objects:
            return httpx.Response(404, json={"message": "namespace not found"})
        at = f"{path}/{body['metadata']['name']}"
        if at in self.objects:
            return httpx.Response(409, json={"message": "already exists"})
        return httpx.Response(201, json=self.keep(at, body))

    def _patch(self, path: str, query: dict[str, str], body: dict[str, Any]) -> httpx.Response:
        if path not in self.objects and "force" not in query:
            return httpx.Response(404, json={"message": "not found"})
        before = self.objects.get(path, {})
        uid = body.get("metadata", {}).get("uid")
        if uid and uid != before["metadata"]["uid"]:
            return httpx.Response(409, json={"message": "uid"})
        return httpx.Response(200, json=self.keep(path, _merged(before, body)))

    def _delete(self, path: str, _query: Any, _body: Any) -> httpx.Response:
        found = self.objects.get(path)
        if found is None:
            return httpx.Response(404, json={"message": "not found"})
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        else:
            del self.objects[path]
        return httpx.Response(200, json=found)

    def keep(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        meta = body["metadata"]
        meta.setdefault("uid", f"uid-{next(self._count)}")
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self.objects.pop(path, None)
        else:
            self.objects[path] = body
        return body

    def named(self, kind: str) -> list[str]:
        return [path.rpartition("/")[2] for path in sorted(self.objects) if path.split("/")[-2] == kind]

    def pod(self, name: str, index: int = 0, job: bool = True, **status: Any) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "name": f"{name}-{index}-abcde",
            "creationTimestamp": f"2026-01-01T00:00:{index:02}Z",
            "labels": {
                "app.kubernetes.io/managed-by": "windlass",
                "windlass.dev/placement": name,
                "windlass.dev/installation": "inst",
            },
        }
        if job:
            meta["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index)}
            meta["finalizers"] = ["windlass.dev/kept"]
        item = {"metadata": meta, "spec": {"nodeName": "node-1"}, "status": status}
        return self.keep(f"/api/v1/namespaces/windlass/pods/{meta['name']}", item)


def _fits(item: dict[str, Any], term: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    if term.startswith("!"):
        return term[1:] not in labels
    name, equals, value = term.partition("=")
    return labels.get(name) == value if equals else name in labels


def _merged(before: Any, change: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(change, dict):
        return change
    return {**before, **{key: _merged(before.get(key), value) for key, value in change.items()}}


def ended(code: int = 0, message: str = "", reason: str = "") -> dict[str, Any]:
    return {
        "terminated": {"exitCode": code, "message": message, "reason": reason, "finishedAt": "2026-01-01T00:01:00Z"}
    }


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:30Z"}}


def containers(program: dict[str, Any], companion: dict[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "program", "state": program, **more}, {"name": "companion", "state": companion or program}]


class Cluster:
    """The target before that API, and what rows would want there."""

    def __init__(self) -> None:
        self.api = Api()
        client = Client(Access("https://kube.example.org:6443", ""), httpx.MockTransport(self.api))
        self.wanted: dict[str, Wanted] = {}
        self.target = KubernetesTarget("inst", "windlass:1", lambda _place: client, lambda _place: self.wanted)
        cluster = SimpleNamespace(kubeconfig="x", credentials="", access={}, namespace="windlass", reach="pods")
        self.place: Any = SimpleNamespace(pk=1, cluster=cluster, name="kube", resource_version="")

    def apply(self, workload: Workload, generation: int = 1, secrets: dict[str, bytes] | None = None) -> None:
        self.target.apply(self.place, workload, generation, secrets or {}, Grants())


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def name_of(number: int) -> str:
    from uuid import UUID

    return Placement.outside_name_of(UUID(int=(1_767_225_600_000 << 80) + number))  # 2026-01-01T00:00:00Z
