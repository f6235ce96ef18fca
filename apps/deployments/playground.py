"""Trying a deployment from its page: the request goes to the gateway as any caller's would, with a key of ours.

The key lives a day, may only predict, and is stored as its hash like every other. Its secret is never stored: it is
derived from the installation's own secret and the key's id whenever it is needed.
"""

from __future__ import annotations

import base64
import json
import math
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from django.db import connection, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from apps.accounts import audit
from apps.accounts.auth import KEY_START, digest
from apps.accounts.models import ApiKey, Workspace
from apps.accounts.services import publish_keys
from apps.core.actor import WINDLASS
from apps.deployments import services
from apps.deployments.models import Deployment, Revision
from apps.placements.models import Placement
from apps.placements.observation import Observed

KEY_NAME = "Playground"
KEY_LIVES = timedelta(hours=24)
KEY_LEFT = timedelta(hours=1)
TIMEOUT_SECONDS = 20.0
KEY_PATIENCE_SECONDS = 10.0
LARGEST_REQUEST_BYTES = 2 * 1024**2


@dataclass(frozen=True)
class Answer:
    """What came back. `error`: why there is none, in the protocol's words. `times`: milliseconds by part."""

    status: int
    body: dict[str, Any]
    error: str = ""
    milliseconds: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    revision: str = ""


class NotSent(Exception):
    """The text is no request that could be sent; words for the user."""


def key_secret(workspace: Workspace) -> str:
    """The secret of a key that is good for another hour at least, made where there is none."""
    found = _current(workspace)
    if found is None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"playground|{workspace.pk}"])
            found = _current(workspace) or _make(workspace)
    return _secret(found)


def _current(workspace: Workspace) -> ApiKey | None:
    keys = ApiKey.objects.filter(workspace=workspace, name=KEY_NAME, created_by=WINDLASS.id, revoked_at=None)
    found = keys.filter(expires_at__gt=timezone.now() + KEY_LEFT).first()
    return found if found and digest(_secret(found)) == found.sha256 else None


def _secret(key: ApiKey) -> str:
    raw = salted_hmac("windlass.playground", str(key.pk), algorithm="sha256").digest()
    return KEY_START + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _make(workspace: Workspace) -> ApiKey:
    key = ApiKey(workspace=workspace, name=KEY_NAME, created_by=WINDLASS.id, expires_at=timezone.now() + KEY_LIVES)
    secret = _secret(key)
    key.sha256, key.hint = digest(secret), f"{secret[:7]}…{secret[-4:]}"
    key.save(force_insert=True)
    audit.record(WINDLASS, "key.make", key.typed_id, {"name": key.name, "role": ""}, workspace)
    publish_keys()
    return key


def model_name(revision: Revision) -> str:
    return revision.export.model_version.model.name


def infer_url(deployment: Deployment, revision: Revision) -> str:
    return f"{services.url(deployment)}/v2/models/{model_name(revision)}/infer"


def parse(text: str) -> dict[str, Any]:
    """The request body that somebody wrote. Raises NotSent."""
    if len(text.encode()) > LARGEST_REQUEST_BYTES:
        raise NotSent("This is more than 2 MiB. Send large requests with curl; the call stands below.")
    try:
        body = json.loads(text)
    except ValueError as error:
        raise NotSent(f"This is no JSON: {error}. Begin from the template.") from error
    if not isinstance(body, dict):
        raise NotSent('A request is an object: {"inputs": [...]}. Begin from the template.')
    return body


def send(deployment: Deployment, revision: Revision, body: dict[str, Any]) -> Answer:
    """Ask the gateway; where it can't be reached from here, a ready replica. Never raises for what they answer."""
    secret = key_secret(deployment.workspace)
    path = f"/v2/models/{model_name(revision)}/infer"
    addresses = [infer_url(deployment, revision), *(f"{base}{path}" for base in _replicas(deployment))]
    ends = time.monotonic() + KEY_PATIENCE_SECONDS
    reason = "it does not answer"
    for address in addresses:
        try:
            answer = _ask(address, secret, body)
            # Replicas read a new key within seconds; one that is refused after that is refused for good.
            while answer.status == 401 and time.monotonic() < ends:
                time.sleep(0.25)
                answer = _ask(address, secret, body)
            return answer
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
    where = urlsplit(addresses[0]).netloc
    words = f"The gateway at {where} can't be reached from the web server ({reason}). Look at the health page."
    return Answer(0, {}, words)


def _replicas(deployment: Deployment) -> list[str]:
    listed = [UUID(item["placement"]) for item in deployment.listing]
    found = []
    for placement in Placement.objects.filter(pk__in=listed):
        if placement.observed:
            ranks = Observed.from_json(placement.observed).ranks
            found += [f"http://{rank.address}:{rank.port}" for rank in ranks if rank.state == "ready" and rank.port]
    return found


@cache
def _client() -> httpx.Client:
    """One for the process: a connection made anew for each call would be most of the time that the page shows."""
    return httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)


def _ask(address: str, secret: str, body: dict[str, Any]) -> Answer:
    began = time.perf_counter()
    response = _client().post(address, json=body, headers={"Authorization": f"Bearer {secret}"})
    spent = (time.perf_counter() - began) * 1000
    try:
        content = response.json()
    except ValueError:
        content = {"error": response.text[:500] or f"It answered {response.status_code} without words."}
    content = content if isinstance(content, dict) else {"error": str(content)[:500]}
    error = ""
    if response.status_code != 200:
        error = f"{response.status_code}: {content.get('error') or content.get('detail') or 'no words came with it'}"
    times = _server_timing(response.headers.get("server-timing", ""))
    return Answer(
        response.status_code,
        content,
        error,
        spent,
        times,
        response.headers.get("x-windlass-revision", ""),
    )


def _server_timing(header: str) -> dict[str, float]:
    """`auth;dur=0.09,queue;dur=3.4` as milliseconds by name."""
    found = {}
    for part in header.split(","):
        name, _, rest = part.strip().partition(";dur=")
        try:
            found[name] = float(rest)
        except ValueError:
            continue
    return found


def probabilities(logits: list[Any]) -> list[float]:
    """Softmax. Values that are not numbers count as nothing."""
    values = [float(value) if isinstance(value, int | float) else -math.inf for value in logits]
    highest = max(values, default=0.0)
    if not math.isfinite(highest):
        return [0.0 for _ in values]
    powers = [math.exp(value - highest) for value in values]
    total = sum(powers)
    return [power / total for power in powers]


def template(signature: dict[str, Any]) -> dict[str, Any]:
    """A request of the right shapes, all zeros, batch 1; -1 becomes 1."""
    inputs = []
    for tensor in signature.get("inputs", []):
        shape = [1 if size < 0 else size for size in tensor["shape"]]
        size = math.prod(shape)
        zero: Any = "" if tensor["datatype"] == "BYTES" else 0
        data = [zero] * min(size, 4096)
        inputs.append({"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": data})
    return {"inputs": inputs}


def picture_size(signature: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width, where the model takes one small picture of one channel that can be drawn."""
    inputs = signature.get("inputs", [])
    if signature.get("task") != "image_classification" or len(inputs) != 1:
        return None
    shape = inputs[0]["shape"]
    if len(shape) != 4 or shape[1] != 1 or not 4 <= shape[2] == shape[3] <= 32:
        return None
    return shape[2], shape[3]


def picture_request(signature: dict[str, Any], pixels: list[float]) -> dict[str, Any]:
    """The request for one picture, its values scaled as the training data were."""
    size = picture_size(signature)
    assert size is not None
    scale = float((signature.get("normalise") or {}).get("scale", 1.0))
    values = [round(value * scale, 6) for value in pixels]
    tensor = signature["inputs"][0]
    shape = [1, 1, *size]
    return {"inputs": [{"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": values}]}
