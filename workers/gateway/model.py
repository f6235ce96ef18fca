"""What the gateway shall do, as plain values: the reconciler makes them from rows, `render` makes files from them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

# What may stand in a URL without an escape, so that a path has one spelling and a name can never leave its place.
NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}")
LARGEST_WEIGHT = 1_000_000


def _check_name(kind: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"The {kind} name {name!r} can't be part of a URL. Use letters, digits, '-', '_', '.' or '~', at most 100, "
            "not a dot first: for example 'digits-2'."
        )


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where one replica listens. `address` is an IP address: the gateway resolves no names."""

    address: str
    port: int

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise ValueError(f"{self.address!r} is no IP address. Give one, for example '10.0.0.7'.") from None
        if not 0 < self.port < 65536:
            raise ValueError(f"Port {self.port} does not exist. Give one from 1 to 65535.")


@dataclass(frozen=True)
class Backend:
    """One revision at one place. `weight`: its share of the requests, relative to the other backends' weights.

    A backend with weight 0 gets no requests, but is known to the gateway and checked, so that it can take its share
    at once. One that has no endpoints leaves its share to the others. `replicas`: how many endpoints it has when all
    are ready; with fewer it takes so much less of its share, lest those that are left be overrun (0: always all of it).
    """

    name: str
    weight: int
    endpoints: tuple[Endpoint, ...] = ()
    replicas: int = 0

    def __post_init__(self) -> None:
        _check_name("backend", self.name)
        if not 0 <= self.weight <= LARGEST_WEIGHT:
            raise ValueError(f"Backend {self.name} has the weight {self.weight}. Give one from 0 to {LARGEST_WEIGHT}.")


@dataclass(frozen=True)
class Route:
    """One deployment, reached at `/{workspace}/{deployment}/v2/...`.

    `version`, from 1 on, grows whenever anything else here changes; `applied` gives it back once Envoy works by it, by
    `identity` ("": by the key), so that a deployment which gets the name of one that is gone isn't taken for it.
    `mirror` gets a copy of each request (marked `x-windlass-shadow: 1`), and its answers are thrown away.
    `timeout_seconds`: from the request's last byte to the answer's last byte.
    """

    workspace: str
    deployment: str
    version: int
    backends: tuple[Backend, ...]
    mirror: Backend | None = None
    timeout_seconds: float = 60.0
    identity: str = ""

    def __post_init__(self) -> None:
        _check_name("workspace", self.workspace)
        _check_name("deployment", self.deployment)
        if self.version < 1:
            raise ValueError(f"{self.key} has the version {self.version}. Versions start at 1 and grow.")
        names = [backend.name for backend in self.all_backends]
        if len(names) != len(set(names)):
            raise ValueError(f"{self.key} has two backends of one name: {', '.join(sorted(names))}. Rename one.")
        if not 0 < self.timeout_seconds <= 86_400:
            raise ValueError(f"{self.key} has a timeout of {self.timeout_seconds} s. Give one above 0, at most 86400.")

    @property
    def key(self) -> str:
        return f"{self.workspace}/{self.deployment}"

    @property
    def known_as(self) -> str:
        return self.identity or self.key

    @property
    def all_backends(self) -> tuple[Backend, ...]:
        return (*self.backends, self.mirror) if self.mirror else self.backends


@dataclass(frozen=True)
class Configuration:
    """All that one gateway serves."""

    routes: tuple[Route, ...] = ()

    def __post_init__(self) -> None:
        keys = [route.key for route in self.routes]
        if len(keys) != len(set(keys)):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise ValueError(f"Routes stand twice: {', '.join(twice)}. Give each deployment one route.")
