"""A kubeconfig that somebody brings: read as data, and refused where it would run, read or reach what is not its own.

It tells whose server to trust and who we are there. Kubernetes' own clients also let it start programs (`exec`), read
files by path, skip the check of certificates and go through proxies: a worker does none of that for somebody.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import yaml
from django.conf import settings

from apps.clusters import addresses

MOST_BYTES = 128 * 1024
WAYS_IN = {"exec": "starts a program", "auth-provider": "starts a program", "password": "is a password in the clear"}
FILES = ("client-certificate", "client-key", "tokenFile")
ACTING = ("as", "as-uid", "as-groups", "as-user-extra")


def check_kubeconfig(text: str) -> dict[str, str]:
    """{"server", "authority" (PEM, "" for the usual ones), "certificate", "key" (PEM), "token"} of its current context.

    Raises ValueError, with words for whoever brought it.
    """
    content = _parsed(text)
    context = _context(content)
    cluster = _named(content, "clusters", "cluster", context.get("cluster"))
    user = _named(content, "users", "user", context.get("user"))
    _check_user(user)
    server = _server(cluster)
    authority = _data(cluster, "certificate-authority-data", "CERTIFICATE")
    certificate = _data(user, "client-certificate-data", "CERTIFICATE")
    key = _data(user, "client-key-data", "PRIVATE KEY")
    token = user.get("token") or ""
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ValueError("Its token is no text in one line.")
    if bool(certificate) != bool(key):
        raise ValueError("It has a client certificate or its key, and needs both of them.")
    if not certificate and not token:
        raise ValueError("It has neither a token nor a client certificate with its key, so nobody could sign in.")
    return {"server": server, "authority": authority, "certificate": certificate, "key": key, "token": token}


def _parsed(text: str) -> dict[str, Any]:
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise ValueError(f"It is larger than {MOST_BYTES // 1024} KiB, which no kubeconfig of one cluster is.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("It refers to parts of itself (YAML aliases); write them out.")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise ValueError(f"It is no YAML{where}. Send what “kubectl config view --raw --minify” prints.") from error
    if not isinstance(content, dict):
        raise ValueError("It is no kubeconfig. Send what “kubectl config view --raw --minify” prints.")
    return content


def _context(content: dict[str, Any]) -> dict[str, Any]:
    contexts = content.get("contexts")
    current = content.get("current-context")
    if not current:
        if not isinstance(contexts, list) or len(contexts) != 1 or not isinstance(contexts[0], dict):
            raise ValueError("It has no current-context, and not one context alone: say which is meant.")
        current = contexts[0].get("name")
    return _named(content, "contexts", "context", current)


def _named(content: dict[str, Any], many: str, one: str, name: Any) -> dict[str, Any]:
    """One of the three lists of a kubeconfig by name."""
    items = content.get(many)
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("name") == name and isinstance(item.get(one), dict):
            return item[one]
    raise ValueError(f"It names the {one} “{str(name)[:60]}”, which is not among its {many}.")


def _check_user(user: dict[str, Any]) -> None:
    for name, what in WAYS_IN.items():
        if user.get(name):
            fix = "Make a service account with a token, and use that."
            raise ValueError(f"Its user has “{name}”, which {what}: Windlass does not do that for anybody. {fix}")
    for name in FILES:
        if user.get(name):
            fix = "“kubectl config view --raw --minify --flatten” writes the content itself into it."
            raise ValueError(f"Its user has “{name}”, a file on a machine that is not ours. {fix}")
    for name in ACTING:
        if user.get(name):
            raise ValueError(f"Its user acts as somebody else (“{name}”). Bring the credentials of the one meant.")


def _server(cluster: dict[str, Any]) -> str:
    if cluster.get("certificate-authority"):
        fix = "“kubectl config view --raw --minify --flatten” writes the content itself into it."
        raise ValueError(f"Its cluster has “certificate-authority”, a file on a machine that is not ours. {fix}")
    if cluster.get("insecure-skip-tls-verify"):
        fix = "Put the server's authority in certificate-authority-data instead."
        raise ValueError(f"It skips the check of the server's certificate, so that anybody could answer. {fix}")
    if cluster.get("proxy-url"):
        raise ValueError("It goes through a proxy (“proxy-url”), which Windlass does not.")
    if cluster.get("tls-server-name"):
        raise ValueError("It expects another name in the server's certificate (“tls-server-name”): use that name.")
    server = cluster.get("server")
    if not isinstance(server, str):
        raise ValueError("It names no server.")
    return server_address(server)


def server_address(server: str) -> str:
    """The address without a slash at its end. Raises ValueError for one that nobody should be sent to.

    A name is looked up where the connection is made; here it is only read.
    """
    try:
        parts = urlsplit(server)
        host, _port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"Its server “{server[:80]}” is no address.") from error
    if parts.scheme != "https" or not host:
        raise ValueError(f"Its server “{server[:80]}” is no https:// address.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("Its server's address has more in it than a host, a port and a path.")
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    why = ""
    with suppress(ValueError):  # a name
        why = addresses.refusal(host, settings.WINDLASS_ALLOWED_PRIVATE_CIDRS)
    if why:
        raise ValueError(f"Its server {host} {why}.")
    return server.rstrip("/")


def _data(part: dict[str, Any], name: str, what: str) -> str:
    """The PEM that stands there in base64; "" where there is none."""
    value = part.get(name)
    if not value:
        return ""
    try:
        plain = base64.b64decode(value, validate=True).decode("ascii") if isinstance(value, str) else ""
    except (binascii.Error, ValueError):
        plain = ""
    if f"{what}-----" not in plain:
        raise ValueError(f"Its “{name}” is no {what.lower()} in PEM and base64.")
    return plain
