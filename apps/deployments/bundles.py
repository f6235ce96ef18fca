"""Who may ask a deployment, as its replicas are told: those on a host by a file, those far away by pulling it."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import timedelta
from typing import Any

from django.db.models import F, Q
from django.utils import timezone

from apps.accounts.models import ApiKey
from apps.deployments.models import Deployment

EXPIRED_TOLD = timedelta(days=30)


def auth_bundle(deployment: Deployment) -> bytes:
    """SHA-256 of each key. A key that is not in it is refused.

    A key that came to its end by itself stays for a while, so that whoever sends it is told the date. `replicas`:
    among how many each key's requests a minute are shared out.
    """
    return _dated(_content(deployment))


def _dated(content: dict[str, Any]) -> bytes:
    return json.dumps({"version": int(time.time() * 1000), "made_at": time.time(), **content}).encode()


def tagged(deployment: Deployment) -> tuple[bytes, str]:
    """The bundle, and an ETag that changes only with what it says."""
    content = _content(deployment)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return _dated(content), f'"{digest[:32]}"'


def _content(deployment: Deployment) -> dict[str, Any]:
    alive = Q(revoked_at=None) | Q(expires_at__lte=F("revoked_at"), expires_at__gt=timezone.now() - EXPIRED_TOLD)
    keys = ApiKey.objects.filter(alive, workspace_id=deployment.workspace_id, may_predict=True)
    allowed = [key for key in keys if not key.deployments or deployment.typed_id in key.deployments]
    return {
        "replicas": deployment.replicas,
        "keys": {
            key.sha256: {
                "id": key.typed_id,
                "name": key.name,
                "expires_at": key.expires_at.timestamp() if key.expires_at else None,
                "requests_per_minute": key.requests_per_minute,
            }
            for key in allowed
        },
    }
