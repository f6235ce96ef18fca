"""Turns a `Configuration` into the files that Envoy watches. Pure, and the same input gives the same bytes.

- `routes.json`: which deployment a URL leads to. It is found through a prefix tree, so that a thousand of them cost a
  request no more than one.
- `endpoints.json`: all replicas, each marked with its deployment and with its share of that one's requests.
- `clusters.json`: a cluster for each mirror, since Envoy mirrors to a whole cluster only.

gRPC will be a second tree beside the one by path: an exact match on the metadata `x-deployment`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from workers.gateway.cluster import BACKEND_KEY, REPLICAS, SUBSET_KEY, cluster_settings
from workers.gateway.files import CLUSTERS, ENDPOINTS, ROUTES, discovery, typed
from workers.gateway.model import Backend, Configuration, Endpoint, Route

ROUTE_CONFIGURATION = "deployments"
METADATA = "windlass"
CLUSTER_TYPE = "envoy.config.cluster.v3.Cluster"
# What the weights of a deployment's replicas add up to. Envoy takes no more than 2^32 for all deployments together.
WHOLE = 100_000

# All that the Open Inference Protocol has, and no more: a server's /metrics or model repository stays inside.
ALLOWED_PATH = (
    r"/[^/]+/[^/]+/v2(?:/health/(?:live|ready)"
    r"|/models(?:/[^/]+(?:/versions/[^/]+)?(?:/(?:ready|infer|generate|generate_stream))?)?)?"
)


@dataclass(frozen=True, order=True)
class Replica:
    """An endpoint of a deployment. `weight`: relative to the others'; one with 0 is checked and gets no requests."""

    endpoint: Endpoint
    backend: str
    weight: int


def render(configuration: Configuration) -> dict[str, bytes]:
    """The files, by name in the gateway's directory. `write` brings them there in a safe order."""
    by_deployment = replicas(configuration)
    routes = sorted(configuration.routes, key=lambda route: route.key)
    mirrors = [_mirror_cluster(route, route.mirror) for route in routes if route.mirror]
    table = _table([(route, _deployment(route, serving(by_deployment[route.key]))) for route in routes])
    return {
        ENDPOINTS: render_replicas(by_deployment),
        CLUSTERS: discovery(CLUSTER_TYPE, mirrors),
        ROUTES: discovery("envoy.config.route.v3.RouteConfiguration", [table]),
    }


def replicas(configuration: Configuration) -> dict[str, list[Replica]]:
    """The replicas of each deployment, mirrors left out, by "workspace/deployment".

    An address that two backends claim (one replica is gone, its port was given to another, and a row does not know
    yet) belongs to neither until the rows agree: no answer is better than another model's answer.
    """
    backends = [backend for route in configuration.routes for backend in route.backends]
    claims = Counter(endpoint for backend in backends for endpoint in set(backend.endpoints))
    return {route.key: _weighed(route, claims) for route in sorted(configuration.routes, key=lambda route: route.key)}


def _weighed(route: Route, claims: Counter[Endpoint]) -> list[Replica]:
    """Each backend's share of the requests, shared out evenly among its replicas."""
    there = [(backend, {one for one in backend.endpoints if claims[one] == 1}) for backend in route.backends]
    shares = {
        backend.name: backend.weight * min(1.0, len(endpoints) / (backend.replicas or len(endpoints)))
        for backend, endpoints in there
        if backend.weight and endpoints
    }
    whole = sum(shares.values())
    found = []
    for backend, endpoints in there:
        share = shares.get(backend.name)
        weight = max(1, round(WHOLE * share / whole / len(endpoints))) if share else 0
        found += [Replica(endpoint, backend.name, weight) for endpoint in endpoints]
    return sorted(found)


def serving(found: list[Replica]) -> list[Replica]:
    return [replica for replica in found if replica.weight]


def render_replicas(by_deployment: dict[str, list[Replica]]) -> bytes:
    hosts = [_replica(name, replica) for name, found in sorted(by_deployment.items()) for replica in found]
    assignment = {"cluster_name": REPLICAS, "endpoints": [{"lb_endpoints": hosts}]}
    return discovery("envoy.config.endpoint.v3.ClusterLoadAssignment", [assignment])


def _replica(deployment: str, replica: Replica) -> dict[str, Any]:
    mark = {BACKEND_KEY: replica.backend}
    if not replica.weight:  # in no subset, so that no request finds it
        return {**_host(replica.endpoint), "metadata": {"filter_metadata": {"envoy.lb": mark}}}
    metadata = {"filter_metadata": {"envoy.lb": {**mark, SUBSET_KEY: deployment}}}
    return {**_host(replica.endpoint), "load_balancing_weight": replica.weight, "metadata": metadata}


def _host(endpoint: Endpoint) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}}}}


def _mirror_cluster(route: Route, mirror: Backend) -> dict[str, Any]:
    name = _mirror_name(route, mirror)
    hosts = [_host(endpoint) for endpoint in sorted(set(mirror.endpoints))]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}
    return {"name": name, "type": "STATIC", "load_assignment": assignment, **cluster_settings()}


def _mirror_name(route: Route, mirror: Backend) -> str:
    return f"mirror/{route.key}/{mirror.name}"


def _table(deployments: list[tuple[Route, list[dict[str, Any]]]]) -> dict[str, Any]:
    unknown = _refuse(
        {"prefix": "/"},
        404,
        "No deployment answers at this path. Use /{workspace}/{deployment}/v2/models/{model}/infer with the "
        "workspace's and the deployment's name as its page shows them.",
    )
    alive = {"match": {"path": "/healthz"}, "direct_response": {"status": 200, "body": {"inline_string": "ok\n"}}}
    by_prefix = {"/": _action([unknown]), "/healthz": _action([alive, unknown])}
    by_prefix |= {f"/{route.key}/": _action(routes) for route, routes in deployments}
    path = typed("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=":path")
    tree = {"input": {"name": "path", "typed_config": path}, "prefix_match_map": {"map": by_prefix}}
    host = {"name": "all", "domains": ["*"], "matcher": {"matcher_tree": tree}, "retry_policy": _retry_policy()}
    return {"name": ROUTE_CONFIGURATION, "virtual_hosts": [host], "response_headers_to_remove": ["server"]}


def _action(routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"action": {"name": "route", "typed_config": typed("envoy.config.route.v3.RouteList", routes=routes)}}


def _refuse(match: dict[str, Any], status: int, why: str) -> dict[str, Any]:
    """Plain words here: the listener's reply format makes the JSON of them."""
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": why}}}


def _deployment(route: Route, ready: list[Replica]) -> list[dict[str, Any]]:
    """Its routes in order: the allowed paths, then a refusal of all others."""
    allowed = {"safe_regex": {"regex": ALLOWED_PATH}}
    base = f"/{route.key}/v2"
    other = _refuse(
        {"prefix": "/"},
        404,
        f"Deployment {route.key} does not answer at this path. Use {base}/models/{{model}}/infer to predict, "
        f"{base}/models/{{model}} for its inputs and outputs, or {base}/health/ready.",
    )
    if ready:
        metadata = {"filter_metadata": {METADATA: {"deployment": route.key}}}
        return [{"match": allowed, "route": _forward(route), "metadata": metadata}, other]
    why = f"Deployment {route.key} has no replica ready. Try again in 5 seconds; its page says what it waits for."
    if not any(backend.weight for backend in route.backends):
        why = f"Deployment {route.key} sends no traffic to any revision. Give one of them traffic on its page."
    return [_refuse(allowed, 503, why), other]


def _forward(route: Route) -> dict[str, Any]:
    action: dict[str, Any] = {
        "cluster": REPLICAS,
        "metadata_match": {"filter_metadata": {"envoy.lb": {SUBSET_KEY: route.key}}},
        "regex_rewrite": {"pattern": {"regex": "^/[^/]+/[^/]+"}, "substitution": ""},
        "timeout": f"{route.timeout_seconds:g}s",
    }
    if route.mirror and route.mirror.endpoints:
        mark = {"append": {"header": {"key": "x-windlass-shadow", "value": "1"}}}
        mirror = {
            "cluster": _mirror_name(route, route.mirror),
            "disable_shadow_host_suffix_append": True,
            "request_headers_mutations": [mark],
        }
        action["request_mirror_policies"] = [mirror]
    return action


def _retry_policy() -> dict[str, Any]:
    """A prediction whose replica died runs again on another one, so it may have run twice: it changes nothing."""
    return {
        "retry_on": "connect-failure,refused-stream,reset,gateway-error",
        "num_retries": 6,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            }
        ],
        # Where one backend has nearly all of the weight, it is picked many times in a row before another one is.
        "host_selection_retry_max_attempts": 50,
    }
