"""The API server: requests as kmock parses them, answered from the store."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import aiohttp.web
import yaml
from kmock import KubernetesScaffold, Request

from tests.clouds.kubernetes.store import RESOURCES, Failure, Key, Store, merged

CLUSTER_WIDE = {"namespaces", "nodes"}
VERSIONS = {"jobs": "batch/v1", "deployments": "apps/v1", "poddisruptionbudgets": "policy/v1"}


def answered(content: dict[str, Any], status: int = 200) -> aiohttp.web.Response:
    return aiohttp.web.json_response(content, status=status)


def failed(failure: Failure, **headers: str) -> aiohttp.web.Response:
    content = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": failure.reason,
        "message": failure.message,
        "code": failure.status,
    }
    return aiohttp.web.json_response(content, status=failure.status, headers=headers)


def fits(item: dict[str, Any], selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        name, _, value = term.replace("==", "=").partition("=")
        if term.startswith("!"):
            good = term[1:] not in labels
        elif name.endswith("!"):
            good = labels.get(name[:-1]) != value
        else:
            good = labels.get(name) == value if "=" in term else name in labels
        if not good:
            return False
    return True


class Api(KubernetesScaffold):
    """`simulator` has the store, the logs and the faults."""

    simulator: Any = None

    async def __call__(self, raw: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        faults, simulator = self.simulator.faults, self.simulator
        simulator.calls.append((raw.method, raw.path))
        if faults.delay_seconds:
            await asyncio.sleep(faults.delay_seconds)
        if faults.down:
            assert raw.transport
            raw.transport.abort()
            raise asyncio.CancelledError
        if faults.status:
            return failed(Failure(faults.status, "Fault", "as the test wants"), **{"Retry-After": "1"})
        token = raw.headers.get("Authorization", "") == f"Bearer {simulator.token}"
        certified = raw.transport is not None and raw.transport.get_extra_info("peercert")
        if not (token or certified) or faults.credentials_ended:
            return failed(Failure(401, "Unauthorized", "Unauthorized"))
        return await super().__call__(raw)

    async def _handle(self, request: Request) -> aiohttp.web.StreamResponse:
        self._requests.clear()
        try:
            if request.resource is None or not request.resource.plural:
                return await self._namespace_or_discovery(request)
            return self._answer(request, request.resource.plural, request.namespace or "", request.name or "")
        except Failure as failure:
            return failed(failure)

    async def _namespace_or_discovery(self, request: Request) -> aiohttp.web.StreamResponse:
        """kmock takes /api/v1/namespaces/x for a folder, and so leaves the plural out."""
        pieces = [piece for piece in request.url.path.split("/") if piece]
        if pieces[:3] == ["api", "v1", "namespaces"]:
            return self._answer(request, "namespaces", "", "".join(pieces[3:4]))
        return await super()._handle(request)

    def _answer(self, request: Request, plural: str, namespace: str, name: str) -> aiohttp.web.StreamResponse:
        if plural not in RESOURCES:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        store: Store = self.simulator.store
        key: Key = (plural, "" if plural in CLUSTER_WIDE else namespace, name)
        method, body = str(request.method.value), self._body(request)
        if request.subresource == "log":
            return self._log(key, request)
        if method == "GET":
            return answered(store.get(key)) if name else self._list(request, plural, key[1] or None)
        if method == "POST":
            return answered(store.create((plural, key[1], body["metadata"]["name"]), body), 201)
        if method == "PATCH":
            return answered(self._patch(store, key, request, body))
        if method == "DELETE" and name:
            return answered(store.delete(key, body or {}))
        raise Failure(405, "MethodNotAllowed", f"the simulator does not {method} {plural}")

    def _body(self, request: Request) -> Any:
        return yaml.safe_load(request.text) if request.text else None

    def _patch(self, store: Store, key: Key, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        kind = request.headers.get("Content-Type", "")
        if kind.startswith("application/apply-patch"):
            if not request.params.get("fieldManager"):
                raise Failure(422, "Invalid", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
            return store.apply(key, body, request.params["fieldManager"])
        if not kind.startswith("application/merge-patch"):
            raise Failure(415, "UnsupportedMediaType", f"the simulator takes no {kind}")
        return store.change(key, merged(copy.deepcopy(store.get(key)), body))

    def _list(self, request: Request, plural: str, namespace: str | None) -> aiohttp.web.Response:
        store: Store = self.simulator.store
        selector = request.params.get("labelSelector", "")
        items = [item for item in store.all(plural, namespace) if fits(item, selector)]
        begins = int(request.params.get("continue") or 0)
        ends = begins + int(request.params.get("limit") or len(items) or 1)
        meta = {"resourceVersion": str(store.version)}
        if ends < len(items):
            meta["continue"] = str(ends)
        kind = f"{RESOURCES[plural]}List"
        version = VERSIONS.get(plural, "v1")
        return answered({"kind": kind, "apiVersion": version, "metadata": meta, "items": items[begins:ends]})

    def _log(self, key: Key, request: Request) -> aiohttp.web.Response:
        pod, container = self.simulator.store.get(key), request.params.get("container", "")
        log = self.simulator.kubelet.log(pod["metadata"]["uid"], container)
        if log is None:
            words = f'container "{container}" in pod "{key[2]}" is waiting to start'
            raise Failure(400, "BadRequest", words)
        return aiohttp.web.Response(body=bytes(log[: int(request.params.get("limitBytes") or len(log) or 1)]))
