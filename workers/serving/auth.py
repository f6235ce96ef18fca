"""Who may call: the auth bundle, republished whole by the control plane and reread here when its file changes.

A bundle that is broken or grows old keeps serving: calls must not end because the control plane is away. A key is
revoked by its absence from the next bundle.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from workers.serving.messages import Refusal

CHALLENGE = b"www-authenticate: Bearer\r\n"
PERIOD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Key:
    """`requests_per_minute`: of all replicas together. `interval_seconds`: from one to the next at this replica."""

    identifier: str
    expires_at: float | None
    requests_per_minute: int | None
    interval_seconds: float


class AuthBundle:
    """`where`: the deployment's name, for messages."""

    def __init__(self, path: Path, where: str) -> None:
        self.path = path
        self.where = where
        self.loaded = False
        self.made_at = 0.0
        self._keys: dict[str, Key] = {}
        self._seen: tuple[int, int, int] | None = None
        # By key: when it would have used up all that it was given (the GCRA of a leaky bucket of one minute).
        self._spent_until: dict[str, float] = {}

    def refresh(self) -> None:
        """Rereads the bundle if its file changed. Never raises: what can't be read leaves the last good one."""
        try:
            status = self.path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return
            keys, made_at = _read(self.path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            print(f"The auth bundle can't be used, the last good one stays: {error}", flush=True)
            # A file that can't be opened is tried again; one that is broken only when it changes.
            self._seen = self._seen if isinstance(error, OSError) else seen
            return
        self._keys, self.made_at, self._seen, self.loaded = keys, made_at, seen, True
        known = {key.identifier for key in keys.values()}
        self._spent_until = {name: at for name, at in self._spent_until.items() if name in known}

    def age_seconds(self) -> float:
        return max(0.0, time.time() - self.made_at) if self.loaded else math.nan

    def admit(self, authorization: bytes | None) -> Key:
        """The key that the Authorization header holds. Raises Refusal (401, 503)."""
        if not self.loaded:
            raise Refusal(
                503, "This replica has not been told yet which keys it may answer. Try again after 1 s.",
                b"retry-after: 1\r\n",
            )  # fmt: skip
        if not authorization:
            raise Refusal(401, "This call has no key. Send the header Authorization: Bearer <key>.", CHALLENGE)
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not (secret := secret.strip()):
            raise Refusal(
                401, "The Authorization header must read Bearer <key>, with a key of this deployment.", CHALLENGE
            )
        key = self._keys.get(sha256(secret).hexdigest())
        if key is None:
            raise Refusal(
                401,
                f"This key is not known to this deployment ({self.where}). Check that it was copied whole; "
                "if it was revoked, is limited to other deployments or belongs to another workspace, make a new one.",
                CHALLENGE,
            )
        if key.expires_at is not None and key.expires_at <= time.time():
            end = datetime.fromtimestamp(key.expires_at, UTC)
            raise Refusal(
                401,
                f"This key ended on {end.day} {end:%B %Y}. Make a new one; old and new can overlap.",
                CHALLENGE,
            )
        return key

    def spend(self, key: Key) -> None:
        """Takes one request from the key's minute. Raises Refusal (429)."""
        if key.requests_per_minute is None:
            return
        now = time.monotonic()
        interval = key.interval_seconds
        until = max(self._spent_until.get(key.identifier, 0.0), now)
        wait = until + interval - now - PERIOD_SECONDS
        if wait > 1e-6:
            seconds = math.ceil(wait)
            raise Refusal(
                429,
                f"429: this key may make {key.requests_per_minute:,} requests a minute and has made them. "
                f"Try again after {seconds} s (the header says so), or raise the key's limit.",
                b"retry-after: %d\r\n" % seconds,
            )
        self._spent_until[key.identifier] = until + interval


def _read(content: bytes) -> tuple[dict[str, Key], float]:
    bundle = orjson.loads(content)
    replicas = max(1, int(bundle.get("replicas", 1)))
    return {digest.lower(): _key(entry, replicas) for digest, entry in bundle["keys"].items()}, float(bundle["made_at"])


def _key(entry: dict[str, Any], replicas: int) -> Key:
    expires_at, per_minute = entry.get("expires_at"), entry.get("requests_per_minute")
    if per_minute is not None and int(per_minute) < 1:
        raise ValueError(f"requests_per_minute of {entry['id']} is {per_minute}")
    # Each replica lets its share pass, and never less than one a minute, or a small limit would refuse all.
    interval = min(PERIOD_SECONDS, PERIOD_SECONDS * replicas / int(per_minute)) if per_minute is not None else 0.0
    return Key(
        str(entry["id"]),
        None if expires_at is None else float(expires_at),
        None if per_minute is None else int(per_minute),
        interval,
    )
