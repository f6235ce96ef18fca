"""What Envoy has really taken, as it says itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from workers.gateway.admin import STATISTICS, refusals, versions_in_force
from workers.gateway.files import CLUSTERS, ENDPOINTS, ROUTES, version_on_disk
from workers.gateway.versions import Versions

# Envoy reads a file within milliseconds; what it has not taken by now, it refused.
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Applied:
    """`versions`: by `Route.known_as`, the highest `Route.version` whose routes, endpoints and mirror are all in
    force. `errors`: for a person, one for each file that Envoy refused; what was there before is then in force.
    """

    versions: dict[str, int]
    errors: tuple[str, ...] = ()


def applied(directory: Path, admin_socket: Path | None = None, *, timeout_seconds: float = 2.0) -> Applied:
    """Ask Envoy once. Its workers follow what it says within one turn of their event loops.

    Raises GatewayUnreachable.
    """
    admin_socket = admin_socket or directory / "admin.sock"
    in_force = versions_in_force(admin_socket, timeout_seconds)
    known = Versions.read(directory)
    parts = [known.of(name, in_force.get(name)) for name in (ROUTES, ENDPOINTS, CLUSTERS)]
    versions = {key: min(part[key] for part in parts) for key in parts[0] if all(part.get(key) for part in parts)}
    waiting = _not_taken(directory, in_force)
    if not waiting:
        return Applied(versions)
    uptime_seconds, counts = refusals(admin_socket, timeout_seconds)
    if uptime_seconds < SETTLE_SECONDS:  # It has not read them all yet.
        return Applied(versions)
    counted = ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"
    return Applied(versions, tuple(_error(name, age, counted) for name, age in waiting.items()))


def _not_taken(directory: Path, in_force: dict[str, str]) -> dict[str, float]:
    """The files that Envoy does not work by, though it had the time, and for how many seconds."""
    found = {}
    for name in STATISTICS.values():
        version = version_on_disk(directory / name)
        if version and in_force.get(name) == version:
            continue
        try:
            age_seconds = time.time() - (directory / name).stat().st_mtime
        except FileNotFoundError:
            age_seconds = float("inf")
        if age_seconds > SETTLE_SECONDS:
            found[name] = age_seconds
    return found


def _error(name: str, age_seconds: float, counted: str) -> str:
    return (
        f"The gateway has not taken {name} for {age_seconds:.0f} s and goes on with what it had before. Its log says "
        f"why; the file is written anew with the next change. (Refused since it started: {counted}.)"
    )
