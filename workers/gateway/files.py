"""The files that Envoy watches, as they lie in the gateway's directory."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

LISTENERS = "listeners.json"
ROUTES = "routes.json"
ENDPOINTS = "endpoints.json"
CLUSTERS = "clusters.json"


def typed(kind: str, **fields: Any) -> dict[str, Any]:
    """A message of this type, as Envoy's `Any` is written in JSON."""
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def discovery(kind: str, resources: Iterable[dict[str, Any]]) -> bytes:
    """A DiscoveryResponse whose `version_info` is the checksum of its resources.

    So what Envoy says it has is exactly what was written. It stands last, where `version_of` finds it.
    """
    listed = orjson.dumps([typed(kind, **resource) for resource in resources], option=orjson.OPT_SORT_KEYS)
    version = hashlib.sha256(listed).hexdigest()[:24]
    return b'{"resources":%b,"version_info":"%b"}' % (listed, version.encode())


def version_of(content: bytes) -> str | None:
    """The `version_info` of a file of ours (its last 64 bytes are enough), or None if it is none of ours."""
    found = re.search(rb'"version_info":"([0-9a-f]{24})"}$', content[-64:])
    return found[1].decode() if found else None


def version_on_disk(path: Path) -> str | None:
    """The `version_info` of a file, without reading it whole; None if it is missing or none of ours."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 64, 0))
            return version_of(file.read())
    except FileNotFoundError:
        return None


def replace_file(path: Path, content: bytes) -> bool:
    """Replace the file in one step if its content differs, and say whether it did. Envoy watches for the rename."""
    if path.exists() and path.read_bytes() == content:
        return False
    temporary = path.with_name(f".{path.name}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    temporary.rename(path)
    return True
