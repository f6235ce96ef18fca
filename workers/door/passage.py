"""A joined host's way to the door: Envoy, listening here where this host's embedded services would.

PostgreSQL and Valkey are met at the same sockets as beside the database, and the web server's parts at the same
address, so nothing else on this host knows of TLS, and the key stays in one file. A new certificate is taken from
that file without a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from workers.door.door import name_at_door
from workers.door.envoys import PARAMETERS, SOCKET_OPTIONS, TLS, at, bootstrap, cluster, forward, pipe
from workers.gateway.files import typed

SECRET = "identity"  # noqa: S105 - the name that Envoy knows the certificate by


@dataclass(frozen=True)
class Passage:
    """`version`: the checksum of the code here. `door`: its address and port. `services`: what is passed through, of
    "postgres", "valkey" and "web", with where it is met here: the path of a socket, or a port of the loopback.
    `identity`: the file of `secret`.
    """

    host_id: str
    version: str
    door: tuple[str, int]
    authority: str
    identity: str
    services: Sequence[tuple[str, str | int]]


def passage_bootstrap(passage: Passage) -> dict[str, Any]:
    clusters, listeners = [], []
    for name, here in passage.services:
        source = {"address": at("0.0.0.0", 0)["socket_address"], "socket_options": SOCKET_OPTIONS}
        tls = {"name": "envoy.transport_sockets.tls", "typed_config": _tls(passage, name)}
        clusters.append(cluster(name, at(*passage.door), transport_socket=tls, upstream_bind_config=_bound(source)))
        where = at("127.0.0.1", here) if isinstance(here, int) else pipe(here, 0o600)
        listeners.append({"name": name, "address": where, "filter_chains": [{"filters": forward(name)}]})
    return bootstrap("passage", clusters, listeners)


def _bound(source: dict[str, Any]) -> dict[str, Any]:
    return {"source_address": source["address"], "socket_options": source["socket_options"]}


def _tls(passage: Passage, name: str) -> dict[str, Any]:
    matcher = {"san_type": "DNS", "matcher": {"exact": "door.windlass"}}
    return typed(
        f"{TLS}.UpstreamTlsContext",
        sni=name_at_door(passage.host_id, passage.version, name),
        max_session_keys=0,
        common_tls_context={
            "tls_params": PARAMETERS,
            "tls_certificate_sds_secret_configs": [
                {
                    "name": SECRET,
                    "sds_config": {
                        "path_config_source": {"path": passage.identity},
                        "resource_api_version": "V3",
                    },
                }
            ],
            "validation_context": {
                "trusted_ca": {"inline_string": passage.authority},
                "match_typed_subject_alt_names": [matcher],
            },
        },
    )


def secret(certificate: str, key: str) -> bytes:
    """The content of the file that the passage takes its certificate from."""
    content = {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}
    resource = typed(f"{TLS}.Secret", name=SECRET, tls_certificate=content)
    return orjson.dumps({"resources": [resource]})
