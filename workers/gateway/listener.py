"""The one port of the gateway: HTTP/1.1 and HTTP/2 (h2c), its limits, and what it says when it answers itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.gateway.files import ROUTES, discovery, typed
from workers.gateway.render import METADATA, ROUTE_CONFIGURATION

STAT_PREFIX = "gateway"
HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True)
class ListenerSettings:
    """`body_limit_bytes`: a larger request gets 413. A request is held whole in memory until it is answered, so that
    it can be sent again when its replica dies: this limit times the requests in flight bounds the gateway's memory
    (`write_bootstrap` caps the heap). `access_log`: a file for one JSON line a request, or None. `receive_seconds`:
    how long a client may take to send one request.
    """

    address: str
    port: int
    body_limit_bytes: int = 64 * 1024 * 1024
    receive_seconds: int = 300
    access_log: Path | None = None


def render_listener(settings: ListenerSettings, directory: Path) -> bytes:
    """The file `listeners.json`. `directory`: where Envoy finds `routes.json`."""
    listener = {
        "name": "gateway",
        "address": {"socket_address": {"address": settings.address, "port_value": settings.port}},
        # With SO_REUSEPORT a second gateway could take half of this one's requests unseen; so a taken port is an error.
        "enable_reuse_port": False,
        "connection_balance_config": {"exact_balance": {}},
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": _http(settings, directory)}]}],
    }
    return discovery("envoy.config.listener.v3.Listener", [listener])


def _http(settings: ListenerSettings, directory: Path) -> dict[str, Any]:
    routes = {"path_config_source": {"path": str(directory / ROUTES)}, "resource_api_version": "V3"}
    return typed(
        HTTP,
        stat_prefix=STAT_PREFIX,
        codec_type="AUTO",
        rds={"route_config_name": ROUTE_CONFIGURATION, "config_source": routes},
        http_filters=[
            {
                "name": "buffer",
                "typed_config": typed(
                    "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=settings.body_limit_bytes
                ),
            },
            {
                "name": "router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
            },
        ],
        # One spelling for each path, before the allowlist sees it.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        # Nobody is trusted as internal: what a client says in x-envoy-* and x-windlass-* is dropped at the door.
        use_remote_address=True,
        internal_address_config={"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        early_header_mutation_extensions=[_strip("x-envoy-", "x-windlass-")],
        always_set_request_id_in_response=True,
        server_header_transformation="PASS_THROUGH",
        common_http_protocol_options={"idle_timeout": "600s", "headers_with_underscores_action": "DROP_HEADER"},
        http2_protocol_options={
            "max_concurrent_streams": 1024,
            "initial_stream_window_size": 1024 * 1024,
            "initial_connection_window_size": 16 * 1024 * 1024,
        },
        request_headers_timeout="15s",
        request_timeout=f"{settings.receive_seconds}s",
        stream_idle_timeout="600s",
        local_reply_config=_replies(settings),
        access_log=[_access_log(settings.access_log)] if settings.access_log else [],
    )


def _strip(*prefixes: str) -> dict[str, Any]:
    return {
        "name": "strip",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            mutations=[{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in prefixes],
        ),
    }


def _replies(settings: ListenerSettings) -> dict[str, Any]:
    """Words for every answer that Envoy makes itself; the body is always {"error": "..."}."""
    who = f"Deployment %METADATA(ROUTE:{METADATA}:deployment)%"
    mebibytes = settings.body_limit_bytes // (1024 * 1024)
    retry = {"header": {"key": "retry-after", "value": "5"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    nothing_ready = f"{who} has no replica ready. Try again in 5 seconds; its page says what it waits for."
    broken = f"{who} could not be reached: its replicas refused or closed the connection. Try again in 5 seconds."
    slow = f"{who} did not answer in time. Send a smaller batch, or raise the deployment's timeout."
    large = f"The request is larger than {mebibytes} MiB. Send fewer inputs at a time."
    return {
        "mappers": [
            _reply(_flags("UH", "NC"), nothing_ready, retry),
            _reply(_flags("UT", "SI"), slow),
            _reply(_flags("UF", "UC", "UR", "LR", "URX", "UO"), broken, retry),
            _reply(_status("EQ", 413), large),
            _reply(_flags("OM"), "The gateway is overloaded. Try again in 5 seconds.", retry),
            # All other 404 and 503 come from a route that refuses, which brings its own words.
            _reply(_status("EQ", 503), "%LOCAL_REPLY_BODY%", retry),
            _reply(_status("EQ", 404), "%LOCAL_REPLY_BODY%"),
            _reply(
                _status("GE", 400),
                "The gateway refused the request: %RESPONSE_CODE_DETAILS%. Check that it is valid HTTP.",
            ),
        ]
    }


def _flags(*flags: str) -> dict[str, Any]:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(operator: str, status: int) -> dict[str, Any]:
    value = {"default_value": status, "runtime_key": "gateway.unused"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": value}}}


def _reply(match: dict[str, Any], words: str, *headers: dict[str, Any]) -> dict[str, Any]:
    return {
        "filter": match,
        "body_format_override": {"json_format": {"error": words}},
        "headers_to_add": list(headers),
    }


def _access_log(path: Path) -> dict[str, Any]:
    line = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "deployment": f"%METADATA(ROUTE:{METADATA}:deployment)%",
        # As the replica sees it, and without the query: that may hold what nobody wants in a log.
        "path": "%PATH(NQ:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "replica": "%UPSTREAM_HOST%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    }
    return {
        "name": "file",
        "typed_config": typed(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(path), log_format={"json_format": line}
        ),
    }
