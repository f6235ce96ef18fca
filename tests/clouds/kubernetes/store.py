"""Objects with versions, labels, owners and finalizers."""

from __future__ import annotations

import copy
import itertools
import uuid
from datetime import UTC, datetime
from typing import Any

Key = tuple[str, str, str]
RESOURCES = {
    "namespaces": "Namespace",
    "nodes": "Node",
    "pods": "Pod",
    "services": "Service",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "events": "Event",
    "jobs": "Job",
    "deployments": "Deployment",
    "poddisruptionbudgets": "PodDisruptionBudget",
}
PLURALS = {kind: plural for plural, kind in RESOURCES.items()}


class Failure(Exception):
    """An answer that is a Status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(before: Any, change: Any) -> Any:
    """A merge patch: null removes."""
    if not isinstance(before, dict) or not isinstance(change, dict):
        return copy.deepcopy(change)
    found = dict(before)
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def without(current: Any, applied: Any, applying: Any) -> Any:
    """`current` less what its manager had applied before and leaves out now."""
    if not isinstance(current, dict) or not isinstance(applied, dict):
        return current
    applying = applying if isinstance(applying, dict) else {}
    return {
        name: without(value, applied.get(name), applying.get(name))
        for name, value in current.items()
        if name not in applied or name in applying
    }


class Store:
    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self._versions = itertools.count(1)
        self.version = 0
        self._applied: dict[tuple[Key, str], dict[str, Any]] = {}

    def get(self, key: Key) -> dict[str, Any]:
        found = self.objects.get(key)
        if found is None:
            raise Failure(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return found

    def all(self, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return [
            item for (kind, place, _name), item in sorted(self.objects.items()) if kind == plural
            if namespace is None or place == namespace
        ]  # fmt: skip

    def create(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        if key in self.objects:
            raise Failure(409, "AlreadyExists", f'{key[0]} "{key[2]}" already exists')
        if key[1] and ("namespaces", "", key[1]) not in self.objects:
            raise Failure(404, "NotFound", f'namespaces "{key[1]}" not found')
        item = copy.deepcopy(body)
        meta = item.setdefault("metadata", {})
        meta |= {"name": key[2], "uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        if key[1]:
            meta["namespace"] = key[1]
        return self.keep(key, item)

    def keep(self, key: Key, item: dict[str, Any]) -> dict[str, Any]:
        self.version = next(self._versions)
        item["metadata"]["resourceVersion"] = str(self.version)
        ended = key[0] != "pods" or item.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if ended and item["metadata"].get("deletionTimestamp") and not item["metadata"].get("finalizers"):
            self.objects.pop(key, None)
            return item
        self.objects[key] = item
        return item

    def change(self, key: Key, new: dict[str, Any]) -> dict[str, Any]:
        """Write it, if anything differs; what is wanted raises the generation."""
        before = self.get(key)
        if new.get("metadata", {}).get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
            raise Failure(409, "Conflict", f"Precondition failed: UID in precondition: {new['metadata']['uid']}")
        if key[0] == "jobs" and new["spec"]["template"] != before["spec"]["template"]:
            raise Failure(422, "Invalid", f'Job.batch "{key[2]}" is invalid: spec.template: field is immutable')
        if new == before:
            return before
        if new.get("spec") != before.get("spec"):
            new["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        return self.keep(key, new)

    def apply(self, key: Key, body: dict[str, Any], manager: str) -> dict[str, Any]:
        """Server-side apply, with lists as wholes."""
        if key not in self.objects:
            found = self.create(key, body)
        else:
            before = self._applied.get((key, manager), {})
            found = self.change(key, merged(without(copy.deepcopy(self.objects[key]), before, body), body))
        self._applied[key, manager] = copy.deepcopy(body)
        return found

    def status(self, key: Key, **status: Any) -> None:
        if key in self.objects:
            item = self.objects[key]
            new = {**item, "status": {**item.get("status", {}), **status}}
            if new != item:
                self.keep(key, new)

    def delete(self, key: Key, options: dict[str, Any]) -> dict[str, Any]:
        item = self.get(key)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted and wanted != item["metadata"]["uid"]:
            raise Failure(409, "Conflict", "Precondition failed: UID")
        meta = dict(item["metadata"])
        if key[0] == "pods":
            usual = item["spec"].get("terminationGracePeriodSeconds", 30)
            grace = options.get("gracePeriodSeconds", usual)
            if meta.get("deletionTimestamp"):
                grace = min(grace, meta.get("deletionGracePeriodSeconds", grace))
            meta |= {"deletionTimestamp": meta.get("deletionTimestamp") or now(), "deletionGracePeriodSeconds": grace}
            if not item["spec"].get("nodeName"):  # no kubelet has it
                item = {**item, "status": {**item.get("status", {}), "phase": "Failed"}}
        elif options.get("propagationPolicy") == "Foreground":
            kept = sorted({*meta.get("finalizers", ()), "foregroundDeletion"})
            meta |= {"deletionTimestamp": meta.get("deletionTimestamp") or now(), "finalizers": kept}
        else:
            meta["deletionTimestamp"] = meta.get("deletionTimestamp") or now()
        new = {**item, "metadata": meta}
        return new if new == item else self.keep(key, new)

    def dependents(self, uid: str) -> list[tuple[Key, dict[str, Any]]]:
        return [
            (key, item)
            for key, item in list(self.objects.items())
            if any(owner["uid"] == uid for owner in item["metadata"].get("ownerReferences", ()))
        ]
