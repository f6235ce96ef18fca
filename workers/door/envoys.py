"""What the door and a passage have in common, as Envoy spells it. From plain values, nothing of ours imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.gateway.files import typed

TLS = "envoy.extensions.transport_sockets.tls.v3"
PARAMETERS = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
CONNECTIONS = 10_000
CONNECT_SECONDS = 3
SILENCE_MS = 20_000
_SOCKET, _TCP, _KEEPALIVE, _IDLE, _INTERVAL, _COUNT, _USER_TIMEOUT = 1, 6, 9, 4, 5, 6, 18
# A cable that was pulled says nothing. Without these a connection over it stays for a quarter of an hour, and with it
# a query that nobody will answer; so it is given up after 20 s without a sign of the other end.
SOCKET_OPTIONS = [
    {"description": what, "level": level, "name": name, "int_value": value, "state": "STATE_PREBIND"}
    for what, level, name, value in (
        ("keep alive", _SOCKET, _KEEPALIVE, 1),
        ("seconds until the first probe", _TCP, _IDLE, 8),
        ("seconds between probes", _TCP, _INTERVAL, 4),
        ("probes", _TCP, _COUNT, 3),
        ("milliseconds without acknowledgement", _TCP, _USER_TIMEOUT, SILENCE_MS),
    )
]


def at(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def pipe(path: str, mode: int | None = None) -> dict[str, Any]:
    return {"pipe": {"path": path, **({} if mode is None else {"mode": mode})}}


def cluster(name: str, address: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One server, known by its address, that is never given up as unhealthy."""
    endpoint = {"endpoint": {"address": address}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "circuit_breakers": {"thresholds": [{"max_connections": 4096, "max_pending_requests": 4096}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        **more,
    }


def forward(name: str) -> list[dict[str, Any]]:
    """Filters that pass bytes on, however long nothing comes."""
    proxy = typed(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=name, cluster=name, idle_timeout="0s"
    )
    return [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]


def bootstrap(name: str, clusters: Sequence[dict[str, Any]], listeners: Any) -> dict[str, Any]:
    """`listeners`: a list of them, or the path of a file that Envoy watches. No admin interface: keys are in there."""
    watched = isinstance(listeners, str)
    source = {"path_config_source": {"path": listeners}, "resource_api_version": "V3"}
    return {
        "node": {"id": name, "cluster": "windlass"},
        "static_resources": {"clusters": list(clusters), **({} if watched else {"listeners": listeners})},
        **({"dynamic_resources": {"lds_config": source}} if watched else {}),
        "overload_manager": {"resource_monitors": [_connections()]},
    }


def _connections() -> dict[str, Any]:
    kind = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": typed(kind, max_active_downstream_connections=CONNECTIONS),
    }
