"""What is to run, said once for every target: a frozen value with a digest.

This module imports nothing but the standard library, so that programs beside a workload (the shim, `carry`)
can read it without loading Django.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["job", "service"]
Trust = Literal["ours", "uploaded"]
Shape = Literal["file", "tree"]
Network = Literal["none", "peers"]


@dataclass(frozen=True)
class Input:
    """A blob that stands at `in/<name>` before the program starts.

    `tree`: the blob is an uncompressed tar, unpacked below `in/<name>/` (regular files and folders only).
    """

    name: str
    blob: str
    sha256: str
    size_bytes: int
    shape: Shape = "file"


@dataclass(frozen=True)
class Output:
    """What the program leaves at `out/<name>`; carried out as one blob (a tree as an uncompressed tar).

    `required`: a job that ends well without it has failed. `always`: kept also when the program fails or is
    stopped (a checkpoint). Names are ours, never the program's: nothing else leaves `out/`.
    """

    name: str
    blob: str
    shape: Shape = "file"
    required: bool = True
    always: bool = False
    max_bytes: int = 2 * 1024**3


@dataclass(frozen=True)
class Resources:
    cpus: float = 1.0
    memory_bytes: int = 1024**3
    gpus: int = 0
    disk_bytes: int = 4 * 1024**3

    def times(self, count: int) -> Resources:
        return Resources(self.cpus * count, self.memory_bytes * count, self.gpus * count, self.disk_bytes * count)


@dataclass(frozen=True)
class Probe:
    """An HTTP GET that answers 200 once a replica may get requests."""

    path: str
    period_seconds: float = 0.5
    timeout_seconds: float = 2.0


@dataclass(frozen=True)
class Workload:
    """One program, as an owner wants it run.

    `argv` starts with "python" for the runtime's interpreter. `env` never holds a secret: `secrets` are names,
    delivered as files `secrets/<name>` by whoever may decrypt them. `ranks` (a job) is for information: torchrun
    in `argv` starts them. `replicas` (a service) is how many copies run, each with its own port of `ports`.
    `resources` are those of one replica of a service, or of the whole job. `nodes` (a job on a target that can do it)
    is how many machines or pods run `argv` at once, all or none, with `resources` shared out evenly. `network`: with
    "peers" the program may reach the other nodes of its job, else nobody.
    """

    name: str
    kind: Kind
    argv: tuple[str, ...]
    runtime: str = "windlass"
    trust: Trust = "ours"
    env: dict[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    resources: Resources = Resources()
    ranks: int = 1
    nodes: int = 1
    network: Network = "none"
    replicas: int = 1
    ports: tuple[str, ...] = ()
    probe: Probe | None = None
    grace_seconds: float = 30.0
    deadline_seconds: float | None = None

    @property
    def digest(self) -> str:
        """Over all but `replicas`: the same digest means that only the number of copies may differ."""
        content = self.to_json()
        del content["replicas"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Workload:
        """Raises TypeError or KeyError for a document that is not a workload."""
        return cls(
            **{
                **content,
                "argv": tuple(content["argv"]),
                "secrets": tuple(content["secrets"]),
                "ports": tuple(content["ports"]),
                "inputs": tuple(Input(**item) for item in content["inputs"]),
                "outputs": tuple(Output(**item) for item in content["outputs"]),
                "resources": Resources(**content["resources"]),
                "probe": Probe(**content["probe"]) if content["probe"] else None,
            }
        )
