"""How a cluster's API is reached: whom to trust there, and who we are. From its row, opened only in a worker."""

from __future__ import annotations

import ipaddress
import json
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from apps.clusters import addresses
from apps.clusters.kubeconfig import check_kubeconfig
from apps.clusters.models import Cluster
from apps.core.sealing import unseal_field


@dataclass(frozen=True)
class Access:
    """All PEM. `authority`: "" for the usual ones. A client certificate with its key, or a token.

    `allowed`: networks where the server may be although they are not the internet; None where the address is our own
    cloud account's word, which is taken as it is.
    """

    server: str
    authority: str
    certificate: str = ""
    key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    allowed: tuple[str, ...] | None = None


def access_of(cluster: Cluster) -> Access:
    """Raises ValueError where its kubeconfig is none, CannotUnseal."""
    from django.conf import settings

    if cluster.kubeconfig:
        known = check_kubeconfig(unseal_field(cluster, "kubeconfig").decode())
        return Access(**known, allowed=tuple(settings.WINDLASS_ALLOWED_PRIVATE_CIDRS))
    made = json.loads(unseal_field(cluster, "credentials"))
    client = made["client"]
    authority = made["authorities"]["server"]["certificate"]
    return Access(cluster.access["server"], authority, client["certificate"], client["key"])


def checked_address(access: Access) -> str:
    """The IP address to connect to just now: looked up and checked here, so that a name can't lead elsewhere later.

    Raises OSError where the name is unknown, PermissionError (one too) where any of its addresses is not allowed.
    """
    parts = urlsplit(access.server)
    host = parts.hostname or ""
    found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    known = list(dict.fromkeys(str(item[4][0]) for item in found))
    if access.allowed is not None:
        for address in known:
            if why := addresses.refusal(address, access.allowed):
                raise PermissionError(f"{host} {why}.")
    return sorted(known, key=lambda address: ipaddress.ip_address(address.partition("%")[0]).version)[0]
