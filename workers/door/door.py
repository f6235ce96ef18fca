"""The door: Envoy on the one TLS port of the main machine that other machines reach.

By the name that a client asks for (SNI): `join.windlass` takes nothing but a request to join, without a client
certificate. `<host>-<version>.postgres.windlass`, `.valkey.windlass` and `.web.windlass` are there for each host that
has joined, open for its key alone, and for the code that runs here: a host that was not brought to the new version
finds no way in, instead of misreading new tables. PostgreSQL and Valkey behind it trust whoever reaches their sockets:
the door is their authentication, and who passes it is the owner of the database.

Each host has filter chains of its own, so that forgetting one closes its open connections (after Envoy's drain time)
and no other's. Keys are known by the SHA-256 of the public key: a renewed certificate changes nothing here.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workers.door.envoys import PARAMETERS, SOCKET_OPTIONS, TLS, at, bootstrap, cluster, forward, pipe
from workers.gateway.files import discovery, typed

JOIN = "join.windlass"
SERVER_NAMES = ("door.windlass", JOIN, "*.web.windlass")
LISTENER = "envoy.config.listener.v3.Listener"
DOOR_HEADER, HOST_HEADER = "x-windlass-door", "x-windlass-host"
JOIN_BODY_BYTES = 64 * 1024
_HTTP = "envoy.extensions.filters.http"


@dataclass(frozen=True)
class Admitted:
    """A host that may pass. `id`: its UUID; `key_sha256`: of its public key, in hexadecimal."""

    id: str
    key_sha256: str


@dataclass(frozen=True)
class Behind:
    """What is behind the door: paths of sockets ("" where that is reached in another way), and the web server."""

    postgres: str
    valkey: str
    web: tuple[str, int]


@dataclass(frozen=True)
class Plan:
    """Where the door listens, "address:port" where other machines reach it, what is behind it, and for which code."""

    bind: str
    port: int
    address: str
    behind: Behind
    version: str


@dataclass(frozen=True)
class Identity:
    """The door's own certificate and key, and the authority that signs hosts; all PEM. `secret`: what it shows the web
    server, which answers some requests to the door alone."""

    certificate: str
    key: str
    authority: str
    secret: str


def name_at_door(host_id: str, version: str, service: str) -> str:
    """What a host asks for (SNI). `version`: the checksum of its code."""
    return f"{host_id}-{version[:12]}.{service}.windlass"


def door_bootstrap(behind: Behind, listeners: str) -> dict[str, Any]:
    """`listeners`: the path of the file that `listeners` makes the content of."""
    clusters = [cluster("web", at(*behind.web))]
    clusters += [cluster(name, pipe(path)) for name, path in _sockets(behind)]
    return bootstrap("door", clusters, listeners)


def listeners(plan: Plan, identity: Identity, hosts: Iterable[Admitted]) -> bytes:
    """The whole file that Envoy watches."""
    version = plan.version
    chains = [_chain(JOIN, identity, None, _web(identity, None))]
    for host in sorted(hosts, key=lambda host: host.id):
        chains += [
            _chain(name_at_door(host.id, version, name), identity, host, forward(name))
            for name, _path in _sockets(plan.behind)
        ]
        chains.append(_chain(name_at_door(host.id, version, "web"), identity, host, _web(identity, host)))
    inspector = typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
    listener = {
        "name": "door",
        "address": at(plan.bind, plan.port),
        "listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": inspector}],
        "listener_filters_timeout": "5s",
        "socket_options": SOCKET_OPTIONS,
        "filter_chains": chains,
    }
    return discovery(LISTENER, [listener])


def _sockets(behind: Behind) -> list[tuple[str, str]]:
    return [(name, path) for name, path in (("postgres", behind.postgres), ("valkey", behind.valkey)) if path]


def _chain(name: str, identity: Identity, host: Admitted | None, filters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For one name. With `host`, for its key alone, as long as its certificate is valid."""
    common: dict[str, Any] = {
        "tls_params": PARAMETERS,
        "tls_certificates": [
            {
                "certificate_chain": {"inline_string": identity.certificate},
                "private_key": {"inline_string": identity.key},
            }
        ],
    }
    if host:
        common["validation_context"] = {
            "trusted_ca": {"inline_string": identity.authority},
            "verify_certificate_spki": [base64.b64encode(bytes.fromhex(host.key_sha256)).decode()],
        }
    context = typed(
        f"{TLS}.DownstreamTlsContext",
        common_tls_context=common,
        require_client_certificate=host is not None,
        # a session that goes on is not looked at again: neither its key nor its end
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )
    return {
        "name": name,
        "filter_chain_match": {"server_names": [name]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
        "transport_socket_connect_timeout": "10s",
        "filters": list(filters),
    }


def _route(method: str, match: dict[str, str], seconds: int) -> dict[str, Any]:
    asked = {"name": ":method", "string_match": {"exact": method}}
    return {
        "match": {**match, "headers": [asked]},
        "route": {"cluster": "web", "timeout": f"{seconds}s", "host_rewrite_literal": "localhost"},
    }


_JOIN_ROUTES = [_route("GET", {"path": "/hosts/authority"}, 10), _route("POST", {"path": "/hosts/join"}, 20)]
_HOST_ROUTES = [
    *(_route(method, {"prefix": "/parts/"}, 600) for method in ("GET", "PUT", "POST")),
    _route("POST", {"path": "/hosts/renew"}, 20),
]


def _web(identity: Identity, host: Admitted | None) -> list[dict[str, Any]]:
    """HTTP to the web server, some paths only; it is told by whom it is asked. From nobody yet: small, and few."""
    name, routes = ("web", _HOST_ROUTES) if host else ("join", _JOIN_ROUTES)
    filters = []
    if not host:
        bucket = {"max_tokens": 50, "tokens_per_fill": 10, "fill_interval": "1s"}
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        limit = typed(
            f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
            stat_prefix=name,
            token_bucket=bucket,
            filter_enabled=always,
            filter_enforced=always,
        )
        buffer = typed(f"{_HTTP}.buffer.v3.Buffer", max_request_bytes=JOIN_BODY_BYTES)
        filters += [
            {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
            {"name": "envoy.filters.http.buffer", "typed_config": buffer},
        ]
    filters.append({"name": "envoy.filters.http.router", "typed_config": typed(f"{_HTTP}.router.v3.Router")})
    told = {DOOR_HEADER: identity.secret, **({HOST_HEADER: host.id} if host else {})}
    reached = {
        "name": name,
        "domains": ["*"],
        "routes": routes,
        "request_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in told.items()
        ],
        "request_headers_to_remove": [] if host else [HOST_HEADER],
    }
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type="HTTP1",
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        request_headers_timeout="10s",
        stream_idle_timeout="60s",
        common_http_protocol_options={"idle_timeout": "60s", "headers_with_underscores_action": "REJECT_REQUEST"},
        http_filters=filters,
        route_config={"name": name, "virtual_hosts": [reached]},
    )
    return [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
