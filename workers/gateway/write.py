"""Brings rendered files to the directory that Envoy watches, in an order in which no request is lost.

First endpoints and clusters, the new ones beside those that routes may still lead to; once Envoy has them, the routes;
once it has those, endpoints and clusters as they shall be. Each step is read from the directory and from Envoy, so
whoever dies between two of them is continued by the next write.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from workers.crashpoints import point
from workers.gateway.admin import GatewayStopped, GatewayUnreachable, versions_in_force
from workers.gateway.cluster import BACKEND_KEY, SUBSET_KEY
from workers.gateway.files import CLUSTERS, ENDPOINTS, ROUTES, discovery, replace_file, version_of, version_on_disk
from workers.gateway.model import Configuration, Endpoint
from workers.gateway.render import CLUSTER_TYPE, Replica, render, render_replicas, replicas, serving
from workers.gateway.versions import Versions

POLL_SECONDS = 0.02


def write(
    directory: Path, configuration: Configuration, admin_socket: Path | None = None, *, timeout_seconds: float = 5.0
) -> bool:
    """Make Envoy work by `configuration`: write only the files that differ, and wait for Envoy between the steps.

    True: all is written and Envoy works by it (or does not run, and will start with it). False: Envoy did not take a
    step within `timeout_seconds`, so the steps after it were left out; `applied` says which file, and calling again
    goes on from there. Costs one look at Envoy when nothing changed.
    """
    socket = admin_socket or directory / "admin.sock"
    deadline = time.monotonic() + timeout_seconds
    files = render(configuration)
    versions = {route.known_as: route.version for route in configuration.routes}
    with _only_writer(directory):
        known = Versions.read(directory)
        joint, changing = _with_old_replicas(directory, configuration)
        # A deployment whose old replicas are still listed is, as for these endpoints, still at the version before.
        before = known.of(ENDPOINTS, version_on_disk(directory / ENDPOINTS))
        halfway = {
            route.known_as: before.get(route.known_as, 0) if route.key in changing else route.version
            for route in configuration.routes
        }
        clusters = _with_old_clusters(directory, files[CLUSTERS])
        known.add(ENDPOINTS, joint, halfway)
        for name, content in ((CLUSTERS, clusters), *files.items()):
            known.add(name, content, versions)
        point("gateway.write.versions.before")
        known.write(directory)
        steps = ({ENDPOINTS: joint, CLUSTERS: clusters}, {ROUTES: files[ROUTES]}, files)
        for step in steps:
            for name, content in step.items():
                point(f"gateway.write.{name}.before")
                replace_file(directory / name, content)
            if not _taken(directory, socket, step, deadline):
                return False
        known.keep_only(files)
        point("gateway.write.forget.before")
        known.write(directory)
    return True


@contextmanager
def _only_writer(directory: Path) -> Iterator[None]:
    """A stalled writer that comes back must not mix its files with another's."""
    with open(directory / ".writer", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _with_old_replicas(directory: Path, configuration: Configuration) -> tuple[bytes, set[str]]:
    """The wanted endpoints, and those of deployments that lose all theirs, to which the routes in force still lead.

    Also the keys of the deployments they belong to.
    """
    wanted = replicas(configuration)
    taken = {replica.endpoint for found in wanted.values() for replica in found}
    changing = set()
    for key, found in _read_replicas(directory).items():
        stay = [replica for replica in found if replica.endpoint not in taken]
        if stay and not serving(wanted.get(key, [])):
            wanted[key] = [*wanted.get(key, []), *stay]
            changing.add(key)
    return render_replicas(wanted), changing


def _read_replicas(directory: Path) -> dict[str, list[Replica]]:
    """Those that get requests by the file that is there, by deployment."""
    found: dict[str, list[Replica]] = {}
    try:
        for host in _resources(directory / ENDPOINTS)[0]["endpoints"][0]["lb_endpoints"]:
            address = host["endpoint"]["address"]["socket_address"]
            mark = host["metadata"]["filter_metadata"]["envoy.lb"]
            if SUBSET_KEY in mark:
                endpoint = Endpoint(address["address"], address["port_value"])
                replica = Replica(endpoint, mark[BACKEND_KEY], host["load_balancing_weight"])
                found.setdefault(mark[SUBSET_KEY], []).append(replica)
    except (LookupError, TypeError, ValueError):
        return {}
    return found


def _with_old_clusters(directory: Path, wanted: bytes) -> bytes:
    if version_on_disk(directory / CLUSTERS) == version_of(wanted):
        return wanted
    clusters = {cluster["name"]: cluster for cluster in _resources(directory / CLUSTERS)}
    clusters |= {cluster["name"]: cluster for cluster in orjson.loads(wanted)["resources"]}
    return discovery(CLUSTER_TYPE, [clusters[name] for name in sorted(clusters)])


def _resources(path: Path) -> list[dict[str, Any]]:
    """What a file of ours lists; nothing if somebody spoilt it: Envoy refused that, and what we write repairs it."""
    try:
        return list(orjson.loads(path.read_bytes())["resources"]) if version_on_disk(path) else []
    except (orjson.JSONDecodeError, KeyError):
        return []


def _taken(directory: Path, socket: Path, names: dict[str, bytes], deadline: float) -> bool:
    """Wait until Envoy works by these files as they are on disk. An Envoy that does not run will start with them."""
    wanted = {name: version_of(content) for name, content in names.items()}
    while True:
        try:
            in_force = versions_in_force(socket, max(deadline - time.monotonic(), 0.1))
        except GatewayStopped:
            return True
        except GatewayUnreachable:
            in_force = {}
        if all(in_force.get(name) == version for name, version in wanted.items()):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
