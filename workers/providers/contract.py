"""The Provider contract: what the generic part (`graph.py`) and the reconcilers may ask of a cloud service.

A provider declares a cluster's resources as a pure function and offers verbs of one call each. It knows nothing of
rows, retries, waiting, tags' meaning, prices over time or taking back: that is the same for all clouds.

Every call takes at most 10 seconds, sends nothing twice by itself (the SDK's own retries are off), and ends in one of
five ways: an answer; `Refusal`, a definite no; `Throttled` or `NotYet`, a definite not now; `Unclear`, when nothing is
known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, Protocol

Health = Literal["pending", "live", "stopping", "gone", "failed"]


class Refusal(Exception):
    """The cloud said no and did nothing. `reason`: NoCapacity, QuotaExceeded, NotPermitted, BadCredentials, InUse,
    NameTaken, NetworkClash or BadRequest. The message says what happened, why, and what to do; of NotPermitted,
    `permission` names the one that is missing.
    """

    def __init__(self, reason: str, message: str, permission: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.permission = reason, message, permission


class Throttled(Exception):
    """The cloud did nothing and asks this account for patience, or was not reached. `after`: seconds, where it said."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class NotYet(Exception):
    """Nothing was done, since what it needs is not known everywhere in the cloud yet."""


class Unclear(Exception):
    """A time-out, a broken connection, a 5xx: it may have acted or not. Never a refusal."""


@dataclass(frozen=True)
class Account:
    """What a provider needs to call: opened credentials and where to. Never logged."""

    credentials: Mapping[str, str] = field(repr=False)
    region: str
    installation: str  # tags everything that is ours, apart from other installations on the same account


@dataclass(frozen=True)
class ClusterSpec:
    """A cluster as it is wanted: names and sizes, no ids of the cloud. `bootstrap`: user-data of each machine, whole
    but for the first one's address (`bootstrap.addressed`); empty where only a plan or a removal is wanted.
    """

    name: str  # the cluster row's outside name, unique for ever
    region: str
    machine_type: str
    machines: int
    disk_gib: int
    network: Mapping[str, str]
    allowed_cidrs: tuple[str, ...]
    prices: Mapping[str, float]  # USD an hour: by machine type, and what `Provider.prices` says of the rest
    bootstrap: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Resource:
    """One resource of a cluster's graph. `key` is its name there, `needs` the keys of those that its create call takes.

    `what` says it for a person. `spec` is what the provider's create call needs besides. `repeatable`: a create call
    with the same token gives the same resource, so after an unclear answer it may be sent again at once; of others a
    confirmed absence is awaited first. `known_id`: of one without tags of its own, such as an attachment, its id made
    of those of its needs: "{gateway}/{network}".
    """

    key: str
    kind: str
    what: str
    needs: tuple[str, ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict, repr=False)
    price_usd_per_hour: float = 0.0
    repeatable: bool = False
    known_id: str = ""


@dataclass(frozen=True)
class Seen:
    """What the cloud says of one resource. `token`: the tag that its create call gave it ("" if it carries none).

    `facts`: what others need of it, as plain JSON. Of a machine: "private_ip", "public_ip"; of one that ended, "why" in
    words, "preempted", and "refusal", the reason of one that the cloud took back at once. `cluster` and the price are
    told of what carries a token, for whoever meets a stray.
    """

    cloud_id: str
    token: str
    health: Health
    facts: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""
    price_usd_per_hour: float = 0.0


@dataclass(frozen=True)
class MachineOffer:
    machine_type: str
    region: str
    cpus: float
    memory_bytes: int
    gpus: int
    price_usd_per_hour: float
    as_of: date


@dataclass(frozen=True)
class Finding:
    """What a check found wrong, and what to do."""

    code: str
    message: str
    fix: str


@dataclass(frozen=True)
class Checked:
    """`identity`: who the cloud says that these credentials are; `findings`: what is missing."""

    identity: str
    findings: tuple[Finding, ...] = ()


class Provider(Protocol):
    name: str
    kinds: tuple[str, ...]  # every kind of resource that a graph may hold
    machine_kind: str  # the one that costs most and ends by itself: looked at every minute
    own_address: str  # a shell command that prints a machine's public address on it

    def check(self, account: Account) -> Checked:
        """Who these credentials are, and what they lack. Raises Refusal (BadCredentials), Throttled, Unclear."""

    def offers(self) -> Iterable[MachineOffer]: ...

    def prices(self, region: str) -> Mapping[str, float]:
        """USD an hour of what is not a machine: "disk_gib", "address"."""

    def graph(self, spec: ClusterSpec) -> tuple[Resource, ...]:
        """Pure: the resources in the order of their making; machines are "machine-0" (the server) and on.

        Raises Refusal for a spec that can't be made.
        """

    def create(self, account: Account, resource: Resource, name: str, needs: Mapping[str, Seen], token: str) -> str:
        """One mutating call, with `token` as its idempotency token or tag; returns the cloud's id.

        `needs`: what it needs, by key, as last seen. What has a `known_id` and is there already is no error.
        Raises Refusal, Throttled, NotYet, Unclear.
        """

    def remove(self, account: Account, kind: str, cloud_id: str, facts: Mapping[str, Any]) -> bool:
        """One mutating call. False: the cloud knows no such thing (any more). Raises as create does."""

    def look(self, account: Account, kind: str) -> dict[str, Seen]:
        """All of ours of one kind, of every cluster in the account and region, by cloud id: one batched describe."""

    def list_owned(self, account: Account) -> Iterable[tuple[str, Seen]]:
        """Everything that carries this installation's tags in the region and is not gone, with its kind."""
