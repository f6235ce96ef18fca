"""How the gateway treats replicas: checks, ejection, limits. One cluster holds those of all deployments.

Envoy takes an inotify instance for each file it watches and aborts when the system has no more (128 a user by
default), so a file for each deployment's endpoints is out of the question. Here all replicas are in one cluster with
one endpoints file; a replica's metadata says which deployment it belongs to, and a route picks that subset. So replicas
come and go without a change to anything else, and a thousand deployments take four watches.

All backends of a deployment are in one subset, and their shares are weights of replicas: a request whose replica died
is sent again to any other, so that the share of a backend that is gone goes to the others at once. (A weighted cluster
a backend would keep the request, and all its retries, with the backend that is gone.)
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from workers.gateway.files import typed

REPLICAS = "replicas"
SUBSET_KEY = "deployment"
BACKEND_KEY = "backend"
# Between 0 (shares hold whatever a replica is at) and 1 (replicas with equally many requests in flight): a share is
# kept to about a hundredth where replicas keep up, and one that stalls, with 50 requests waiting, gets half of its own.
LEAN_TO_IDLE = 0.2
UNACKNOWLEDGED_MILLISECONDS = 5000


def replicas_cluster(endpoints: Path) -> dict[str, Any]:
    """The cluster of all deployments. `endpoints`: the file where Envoy finds its replicas."""
    source = {"path_config_source": {"path": str(endpoints)}, "resource_api_version": "V3"}
    return {
        "name": REPLICAS,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": source},
        "lb_subset_config": {"fallback_policy": "NO_FALLBACK", "subset_selectors": [{"keys": [SUBSET_KEY]}]},
        **cluster_settings(),
    }


def cluster_settings() -> dict[str, Any]:
    """Everything but name, kind and endpoints."""
    http = typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        # Replicas keep idle connections for 600 s: we close first, so that no request meets a closing connection.
        common_http_protocol_options={"idle_timeout": "300s"},
        explicit_http_config={"http_protocol_options": {}},
    )
    return {
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        # Counts only where weights differ; else the less busy one of two replicas picked by chance gets the request.
        "least_request_lb_config": {
            "active_request_bias": {"default_value": LEAN_TO_IDLE, "runtime_key": "gateway.unused_bias"}
        },
        # A replica is listed only when it is ready: don't hold it, or a start of the gateway, back for a first check.
        "wait_for_warm_on_init": False,
        # A replica that left the list gets nothing more, though it would still pass its check.
        "ignore_health_on_host_removal": True,
        # If no replica of a deployment seems healthy, the checks are as likely wrong: try rather than refuse.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}, "update_merge_window": "0s"},
        "circuit_breakers": {"thresholds": [_limits("DEFAULT"), _limits("HIGH")]},
        "health_checks": [
            {
                "timeout": "1s",
                "interval": "0.5s",
                "no_traffic_interval": "0.5s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"host": "gateway", "path": "/v2/health/ready"},
            }
        ],
        "outlier_detection": _outlier_detection(),
        # A host that vanished without a word (no RST) is noticed within seconds instead of at the request's timeout:
        # by keepalive where an answer is awaited, by the other where a request was sent and nothing acknowledged it.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 5, "keepalive_interval": 2, "keepalive_probes": 3}
        },
        "upstream_bind_config": {"socket_options": [_tcp_user_timeout(UNACKNOWLEDGED_MILLISECONDS)]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
    }


def _tcp_user_timeout(milliseconds: int) -> dict[str, Any]:
    return {
        "description": "TCP_USER_TIMEOUT",
        "level": socket.IPPROTO_TCP,
        "name": socket.TCP_USER_TIMEOUT,
        "int_value": milliseconds,
        "state": "STATE_PREBIND",
    }


def _limits(priority: str) -> dict[str, Any]:
    """Above what one gateway can hold: replicas and their queues are what limits.

    With Envoy's default of 3 retries at a time, the death of one busy replica lost 1,195 of 33,700 requests.
    """
    most = 50_000
    return {
        "priority": priority,
        "max_connections": most,
        "max_pending_requests": most,
        "max_requests": most,
        "max_retries": most,
    }


def _outlier_detection() -> dict[str, Any]:
    """One failure that is surely the replica's (it refused or broke a connection) puts it out until a check passes.

    Its own 5xx answers are left to the health check: a request that makes it fail must not take it away from others.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 1,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "0.5s",
        "base_ejection_time": "2s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 100,
    }
