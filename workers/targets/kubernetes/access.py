"""How a cluster's API is reached: whom to trust there, and who we are. From its row, opened only in a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from apps.clusters.kubeconfig import check_kubeconfig
from apps.clusters.models import Cluster
from apps.core.sealing import unseal_field


@dataclass(frozen=True)
class Access:
    """All PEM. `authority`: "" for the usual ones. A client certificate with its key, or a token."""

    server: str
    authority: str
    certificate: str = ""
    key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def access_of(cluster: Cluster) -> Access:
    """Raises ValueError where its kubeconfig is none, CannotUnseal."""
    if cluster.kubeconfig:
        return Access(**check_kubeconfig(unseal_field(cluster, "kubeconfig").decode()))
    made = json.loads(unseal_field(cluster, "credentials"))
    client = made["client"]
    authority = made["authorities"]["server"]["certificate"]
    return Access(cluster.access["server"], authority, client["certificate"], client["key"])
