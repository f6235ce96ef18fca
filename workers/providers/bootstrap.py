"""The first program of a cluster's machines: it brings up k3s, with certificate authorities that we made beforehand.

The first machine is the server, the others are agents. Since the authorities are ours we know whom to trust before
the cluster is there, and issue our own client certificate; nothing has to be fetched from a machine.
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
from collections.abc import Mapping
from typing import Any

from apps.core.certificates import Pair, issue, make_authority

K3S_VERSION = "v1.34.9+k3s1"
INSTALLER = f"https://raw.githubusercontent.com/k3s-io/k3s/{K3S_VERSION.replace('+', '%2B')}/install.sh"
SERVER_ADDRESS = "@SERVER_ADDRESS@"
AUTHORITIES = ("server", "client", "request_header")  # k3s keeps three, so that none can speak for another
CLIENT_DAYS = 3650.0
LARGEST_BYTES = 16_384  # what EC2 takes; the others take more

PREPARE = """#!/bin/bash
# Nothing here prints a secret: this program's output is kept, and clouds show it.
set -euo pipefail
umask 077
root="${WINDLASS_ROOT:-}"
mkdir -p "$root/etc/rancher/k3s" "$root/var/lib/rancher/k3s/server/tls" "$root/var/log"
exec >>"$root/var/log/windlass-bootstrap.log" 2>&1
keep() { mkdir -p "$(dirname "$root$1")"; cat >"$root$1"; }
"""

INSTALL = """installer="$root/var/lib/rancher/k3s/install.sh"
curl -sfL --retry 10 --retry-delay 3 --retry-all-errors -o "$installer" {url}
INSTALL_K3S_VERSION={version} INSTALL_K3S_EXEC={role} sh "$installer"
echo "k3s {role} was installed"
"""


def make_credentials(name: str) -> dict[str, Any]:
    """What a new cluster is known by, as plain JSON to be sealed: {"authorities": {name: {"certificate", "key"}},
    "client": {"certificate", "key"}, "token", "agent_token"}. `client` may do everything in the cluster.
    """
    authorities = {kind: make_authority(f"{name}-{kind.replace('_', '-')}-ca") for kind in AUTHORITIES}
    client = issue(authorities["client"], "windlass", organization="system:masters", server=False, days=CLIENT_DAYS)
    return {
        "authorities": {kind: _plain(pair) for kind, pair in authorities.items()},
        "client": _plain(client),
        "token": secrets.token_hex(24),
        "agent_token": secrets.token_hex(24),
    }


def scripts(credentials: Mapping[str, Any], machines: int, own_address: str) -> tuple[str, ...]:
    """The user-data of each machine, the server's first. The same for the same credentials, as a repeated call must be.

    `own_address`: a shell command that prints the machine's public address on it.
    """
    server = _server(credentials, own_address)
    return (server, *(_agent(credentials, f"machine-{number}") for number in range(1, machines)))


def addressed(script: str, server: str) -> str:
    """An agent's script with the address of its server, which is known only once that is there."""
    return script.replace(SERVER_ADDRESS, server)


def _server(credentials: Mapping[str, Any], own_address: str) -> str:
    parts = [PREPARE]
    for kind, pair in credentials["authorities"].items():
        path = f"/var/lib/rancher/k3s/server/tls/{kind.replace('_', '-')}-ca"
        parts += [_file(f"{path}.crt", pair["certificate"]), _file(f"{path}.key", pair["key"])]
    parts.append(f"public=$({own_address})\n")
    configuration = (
        f"token: {credentials['token']}\nagent-token: {credentials['agent_token']}\nnode-name: machine-0\n"
        'tls-san:\n  - $public\nnode-external-ip: $public\nwrite-kubeconfig-mode: "0600"\nsecrets-encryption: true\n'
        "disable:\n  - traefik\n  - servicelb\n"
    )
    parts += [_file("/etc/rancher/k3s/config.yaml", configuration, expanded=True), _install("server")]
    return _checked("".join(parts))


def _agent(credentials: Mapping[str, Any], name: str) -> str:
    authority = credentials["authorities"]["server"]["certificate"]
    # k3s hashes a lone certificate as the file stands; with the hash, an agent sends its token to no other server
    known = hashlib.sha256(authority.encode()).hexdigest()
    configuration = (
        f"server: https://{SERVER_ADDRESS}:6443\ntoken: K10{known}::node:{credentials['agent_token']}\n"
        f"node-name: {name}\nwith-node-id: true\n"
    )
    return _checked("".join([PREPARE, _file("/etc/rancher/k3s/config.yaml", configuration), _install("agent")]))


def _install(role: str) -> str:
    return INSTALL.format(url=shlex.quote(INSTALLER), version=shlex.quote(K3S_VERSION), role=role)


def _file(path: str, content: str, expanded: bool = False) -> str:
    """Keeps a file; `expanded`: the shell's variables in it are filled in."""
    mark = "END_OF_FILE" if expanded else "'END_OF_FILE'"
    return f"keep {path} <<{mark}\n{content.rstrip()}\nEND_OF_FILE\n"


def _checked(script: str) -> str:
    if len(script.encode()) > LARGEST_BYTES:
        raise ValueError(f"A machine's first program has {len(script.encode())} bytes; clouds take {LARGEST_BYTES}.")
    return script


def _plain(pair: Pair) -> dict[str, str]:
    return {"certificate": pair.certificate, "key": pair.key}
