"""The Target contract: what the placement and place reconcilers may ask of whatever runs workloads.

Every method is idempotent and takes at most 10 seconds.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.placements.observation import Observed
from apps.placements.workload import Resources, Workload


class Conflict(Exception):
    """The name is taken by another workload (another digest, or a newer generation)."""


class Unavailable(Exception):
    """The target did not answer; nothing is known. Try again later."""


class Refused(Conflict):
    """This target will never run this workload. `reason`: a CamelCase code; `message`: why, and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True)
class Capacity:
    fits: bool
    why_not: str = ""


@dataclass(frozen=True)
class Chunk:
    """Bytes of a stream from `offset` (inclusive) to `next_offset` (exclusive)."""

    data: bytes
    offset: int
    next_offset: int


@dataclass(frozen=True)
class Owned:
    name: str
    ended: bool


@dataclass(frozen=True)
class InputGrant:
    """The right to read one blob: where its sealed parts are (paths or URLs) and its data key."""

    blob: str
    data_key: bytes
    parts: tuple[str, ...]


@dataclass(frozen=True)
class OutputGrant:
    """The right to write one blob. `directory`: a folder here, or an address that takes PUT; part n is
    `<directory>/<n>`."""

    blob: str
    data_key: bytes
    directory: str


@dataclass(frozen=True)
class Grants:
    """`ends_at`: unix seconds when the addresses in it end; None where there are only paths. `replica_address`: where
    replicas of a service pull who may call and push what they answered; "" where `publish` reaches them."""

    inputs: dict[str, InputGrant] = field(default_factory=dict)
    outputs: dict[str, OutputGrant] = field(default_factory=dict)
    ends_at: float | None = None
    replica_address: str = ""

    def to_json(self) -> bytes:
        """What `carry` reads as grants.json."""

        def written(grant: InputGrant | OutputGrant) -> dict[str, Any]:
            return {**dataclasses.asdict(grant), "data_key": base64.b64encode(grant.data_key).decode()}

        inputs = {name: written(grant) for name, grant in self.inputs.items()}
        outputs = {name: written(grant) for name, grant in self.outputs.items()}
        return json.dumps({"inputs": inputs, "outputs": outputs}).encode()


class Target(Protocol):
    """`place` is an `apps.placements.models.Place`; a target reads of it what it needs to find its machine."""

    def capacity(self, place: Any, resources: Resources) -> Capacity: ...

    def apply(self, place: Any, workload: Workload, generation: int, secrets: dict[str, bytes], grants: Grants) -> None:
        """Make it so. Same digest: only `replicas` may change. Raises Conflict, Refused, Unavailable, OSError."""

    def observe(self, place: Any) -> dict[str, Observed]:
        """Everything of ours there, by workload name, in one call. An absent name is gone. Raises Unavailable."""

    def stop(self, place: Any, name: str, grace_seconds: float) -> None:
        """SIGTERM now, SIGKILL after the grace time. What it wrote stays; unknown names are no error."""

    def delete(self, place: Any, name: str) -> None:
        """Remove it with all it wrote and leave a tombstone: a late apply of the name is refused."""

    def logs(self, place: Any, name: str, stream: str, offset: int, limit: int) -> Chunk: ...

    def publish(self, place: Any, name: str, file: str, content: bytes) -> None:
        """Replace `live/<file>` beside a service (its auth bundle), atomically. A target far away does nothing here:
        its replicas pull theirs."""

    def list_owned(self, place: Any) -> Iterable[Owned]: ...
