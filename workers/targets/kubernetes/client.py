"""Calls of a Kubernetes API, each one request that is never repeated by itself and follows no redirect."""

from __future__ import annotations

import json
import logging
import ssl
import tempfile
import threading
import time
import weakref
from typing import Any
from urllib.parse import urlsplit

import httpx

from workers.crashpoints import point
from workers.targets.contract import Conflict, Refused, Unavailable
from workers.targets.kubernetes.access import Access, checked_address

SECONDS = 8.0
PAGE = 500
Items = list[dict[str, Any]]
MANAGER = "windlass"
logging.getLogger("httpx").setLevel(logging.WARNING)  # else each request is a line of our log
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


class Missing(Exception):
    """There is no object of that name."""


class Client:
    """`budget` starts the time within which all calls until the next one must be answered.

    Every call may raise Unavailable, Missing (404), contract.Conflict (409) and contract.Refused (what it can never
    take), with words for a person.
    """

    def __init__(self, access: Access, transport: httpx.BaseTransport | None = None) -> None:
        self.access = access
        self._resolves = transport is None
        context = _context(access) if transport is None else True
        self._http = httpx.Client(verify=context, trust_env=False, follow_redirects=False, transport=transport)
        weakref.finalize(self, self._http.close)  # its connections go with it, and at the end of the process
        self._mine = threading.local()  # several threads share the connections, not the time

    def budget(self, seconds: float) -> None:
        self._mine.ends = time.monotonic() + seconds

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The object or list at that path."""
        return self._json("GET", path, query)

    def list(self, path: str, selector: str = "") -> tuple[Items, str]:
        """All items, page by page of the same moment, and that moment's resourceVersion."""
        try:
            return self._pages(path, selector)
        except (Missing, Conflict) as error:
            raise Unavailable(f"it does not list {path.rpartition('/')[2]}: {error}") from error

    def _pages(self, path: str, selector: str) -> tuple[Items, str]:
        items: Items = []
        query = {"limit": PAGE, **({"labelSelector": selector} if selector else {})}
        page = self.get(path, **query)
        version = str(page.get("metadata", {}).get("resourceVersion", ""))
        items += page.get("items") or []
        while following := page.get("metadata", {}).get("continue"):
            page = self.get(path, **query, **{"continue": following})
            items += page.get("items") or []
        return items, version

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json("POST", path, {"fieldManager": MANAGER}, body)

    def apply(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply: ours are the fields that it names, whoever had them."""
        return self._json("PATCH", path, {"fieldManager": MANAGER, "force": "true"}, body, APPLY)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json("PATCH", path, {"fieldManager": MANAGER}, body, MERGE)

    def delete(self, path: str, **options: Any) -> None:
        """What is not there is no error."""
        try:
            self._json("DELETE", path, {}, {"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except Missing:
            return

    def log(self, path: str, container: str, most_bytes: int) -> bytes:
        query = {"container": container, "limitBytes": most_bytes}
        return self._send("GET", f"{path}/log", query).content

    def _json(
        self, method: str, path: str, query: dict[str, Any], body: Any = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        answer = self._send(method, path, query, body, kind)
        try:
            return dict(answer.json())
        except ValueError as error:
            raise Unavailable("what answered is no Kubernetes: it sent no JSON.") from error

    def _send(
        self, method: str, path: str, query: dict[str, Any], body: Any = None, kind: str = "application/json"
    ) -> httpx.Response:
        ends = getattr(self._mine, "ends", None)
        seconds = SECONDS if ends is None else min(SECONDS, ends - time.monotonic())
        if seconds < 0.2:
            raise Unavailable("it answers too slowly.")
        verb = VERBS[method]
        point(f"kubernetes.{verb}.before")
        try:
            answer = self._http.send(self._request(method, path, query, body, kind, seconds))
        except (httpx.HTTPError, OSError) as error:
            raise Unavailable(str(error) or type(error).__name__) from error
        point(f"kubernetes.{verb}.answered")
        if not answer.is_success:
            _refuse(answer, verb, path)
        return answer

    def _request(
        self, method: str, path: str, query: dict[str, Any], body: Any, kind: str, seconds: float
    ) -> httpx.Request:
        parts = urlsplit(self.access.server)
        headers = {"Accept": "application/json", "Host": parts.netloc}
        extensions: dict[str, Any] = {"timeout": httpx.Timeout(seconds).as_dict()}
        host = parts.hostname or ""
        if self._resolves:
            extensions["sni_hostname"] = host
            host = checked_address(self.access)
        if self.access.token:
            headers["Authorization"] = f"Bearer {self.access.token}"
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), kind
        address = f"https://{f'[{host}]' if ':' in host else host}:{parts.port or 443}{parts.path}{path}"
        return httpx.Request(method, address, params=query, headers=headers, content=content, extensions=extensions)


def _context(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=access.authority or None)
    if access.certificate:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # 0600; ssl reads files only
            file.write(access.certificate + access.key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _refuse(answer: httpx.Response, verb: str, path: str) -> None:
    status = answer.status_code
    try:
        said = str(answer.json().get("message", ""))
    except (ValueError, AttributeError):
        said = answer.text
    said = said[:300] or "it gave no reason."
    pieces = [piece for piece in path.partition("?")[0].split("/") if piece]
    resource = pieces[pieces.index("namespaces") + 2] if pieces.count("namespaces") and len(pieces) > 4 else pieces[-1]
    if status == 404:
        raise Missing(said)
    if status == 409:
        raise Conflict(said)
    if status == 401:
        raise Unavailable("it does not know our credentials any more: give the cluster a new kubeconfig.")
    if status == 403 and "quota" in said:
        raise Unavailable(f"a quota of the namespace is used up: {said}")
    if status == 403:
        raise Unavailable(f"we lack the right to {verb} {resource} there. Add it to our role. It said: {said}")
    if status in (400, 413, 422):
        raise Refused("NotValid", f"The Kubernetes takes no such {resource}: {said}")
    after = answer.headers.get("Retry-After", "")
    if status == 429:
        wait = f", in {after} seconds" if after.isdecimal() else ""
        raise Unavailable(f"it asks us to call less often{wait}.")
    raise Unavailable(f"it answered {status}: {said}")
