"""Who may pass the door, from the rows to the file that Envoy watches. Done again and again, the same each time."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from cryptography import x509
from django.conf import settings

from apps.clusters import joining
from apps.core import certificates
from workers.crashpoints import point
from workers.door.door import SERVER_NAMES, Admitted, Identity, Plan, listeners
from workers.gateway.files import replace_file

SERVER_DAYS = 90.0
RENEW = timedelta(days=30)


def write_door() -> bool:
    """Write who may pass; returns whether that was another than before. A host that was forgotten is not among them."""
    plan: Plan | None = settings.WINDLASS_DOOR
    assert plan, "only called where WINDLASS_HOSTS_PORT is set"
    directory: Path = settings.WINDLASS_DOOR_DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    hosts = [Admitted(host_id, key) for host_id, key in joining.admitted()]
    content = listeners(plan, _identity(directory), hosts)
    point("door.admit.before")
    changed = replace_file(directory / "listeners.json", content)
    point("door.admit.answered")
    replace_file(directory / "door.json", json.dumps({"address": plan.address}).encode())
    return changed


def close_door() -> None:
    """Nobody is invited to a door that is not open."""
    (settings.WINDLASS_DOOR_DIRECTORY / "door.json").unlink(missing_ok=True)


def _identity(directory: Path) -> Identity:
    """The door's certificate: kept while it is valid for long enough and of the same authority."""
    authority = joining.authority()
    path = directory / "identity.json"
    showing = secrets.token_hex(32)
    try:
        kept = Identity(**json.loads(path.read_bytes()))
        ends = x509.load_pem_x509_certificate(kept.certificate.encode()).not_valid_after_utc
        if kept.authority == authority.certificate and ends - datetime.now(UTC) > RENEW:
            return kept
        showing = kept.secret
    except (OSError, ValueError, TypeError):
        pass  # none yet, or one that can't be read
    made = certificates.issue(authority, "door.windlass", names=SERVER_NAMES, server=True, days=SERVER_DAYS)
    fresh = Identity(made.certificate, made.key, authority.certificate, showing)
    replace_file(path, orjson.dumps(fresh.__dict__))
    return fresh
