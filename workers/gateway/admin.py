"""Reads what Envoy says of itself on its admin socket. Nothing is ever changed through it."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Any

import orjson

from workers.crashpoints import point
from workers.gateway.cluster import REPLICAS
from workers.gateway.files import CLUSTERS, ENDPOINTS, LISTENERS, ROUTES
from workers.gateway.listener import STAT_PREFIX
from workers.gateway.render import ROUTE_CONFIGURATION

# Where Envoy shows the `version_info` in force of each file it watches. A file that it refuses leaves it unchanged.
STATISTICS = {
    "listener_manager.lds.version_text": LISTENERS,
    "cluster_manager.cds.version_text": CLUSTERS,
    f"cluster.{REPLICAS}.version_text": ENDPOINTS,
    f"http.{STAT_PREFIX}.rds.{ROUTE_CONFIGURATION}.version_text": ROUTES,
}


class GatewayUnreachable(Exception):
    """Envoy's admin socket gives no answer."""


class GatewayStopped(GatewayUnreachable):
    """Nobody listens at the admin socket: Envoy is not running, or has only just been started."""


def versions_in_force(admin_socket: Path, timeout_seconds: float = 2.0) -> dict[str, str]:
    """By file name, the `version_info` that Envoy works by. Raises GatewayUnreachable."""
    rows = _statistics(admin_socket, "type=TextReadouts", timeout_seconds)
    return {STATISTICS[row["name"]]: row["value"] for row in rows if row["name"] in STATISTICS}


def refusals(admin_socket: Path, timeout_seconds: float = 2.0) -> tuple[int, dict[str, int]]:
    """For how many seconds Envoy runs, and how often it refused which kind of file since. Raises GatewayUnreachable."""
    # Not the statistic `server.uptime`: Envoy counts that every 5 s only.
    uptime = orjson.loads(_read(admin_socket, "/server_info", timeout_seconds))["uptime_current_epoch"]
    rows = _statistics(admin_socket, "type=Counters&filter=update_(rejected|failure)$", timeout_seconds)
    return int(uptime.removesuffix("s")), {row["name"]: row["value"] for row in rows if row.get("value")}


def _statistics(admin_socket: Path, query: str, timeout_seconds: float) -> list[dict[str, Any]]:
    return list(orjson.loads(_read(admin_socket, f"/stats?format=json&{query}", timeout_seconds))["stats"])


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("admin", timeout=timeout_seconds)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _read(admin_socket: Path, target: str, timeout_seconds: float) -> bytes:
    point("gateway.admin.before")
    connection = _Connection(admin_socket, timeout_seconds)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise GatewayStopped(f"No gateway runs with the admin socket {admin_socket}. Start it first.") from error
    except (OSError, http.client.HTTPException) as error:
        raise GatewayUnreachable(
            f"The gateway does not answer at {admin_socket} ({error or type(error).__name__}). See its log."
        ) from error
    finally:
        connection.close()
    point("gateway.admin.answered")
    if answer.status != 200:
        words = body[:200].decode(errors="replace")
        raise GatewayUnreachable(f"The gateway answered {answer.status} to {target}: {words}")
    return body
