"""What a target says of a workload. Standard library only, as `workload.py`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["pending", "running", "ready", "exited", "gone", "unknown"]
Reason = Literal["ok", "error", "oom", "killed", "preempted", "deadline"]


@dataclass(frozen=True)
class Exit:
    """How a program ended. `message` is for a person: what happened and, if known, why.

    `failure`: the CamelCase code that the program itself gave in `out/failure.json` ("Diverged"), or "".
    """

    code: int | None
    signal: int | None
    reason: Reason
    message: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Rank:
    """One copy of a service's program, or a job's program (ordinal 0)."""

    ordinal: int
    state: Literal["starting", "running", "ready", "backoff", "draining", "exited"]
    address: str = ""
    port: int = 0
    restarts: int = 0
    message: str = ""


@dataclass(frozen=True)
class Stored:
    """An output that was carried out: the plain content's checksum and size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Observed:
    """One workload as its target sees it. `gone` only when that is sure, else `unknown`.

    `generation`: the last one that the target took. `log_bytes`: bytes so far of each stream ("0", "1", ...
    are the logs of ranks or ordinals, "metrics-0", "metrics-1", ... their metrics files), None where the target would
    have to read it to know. `times`: UTC ISO 8601 of
    what happened ("accepted", "fetched", "started", "exited", "stored"); an absent key was not recorded.
    """

    state: State
    generation: int = 0
    ranks: tuple[Rank, ...] = ()
    outputs: dict[str, Stored] = field(default_factory=dict)
    exit: Exit | None = None
    log_bytes: dict[str, int | None] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    message: str = ""

    @property
    def ready_ordinals(self) -> tuple[int, ...]:
        return tuple(rank.ordinal for rank in self.ranks if rank.state == "ready")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Observed:
        return cls(
            **{
                **content,
                "ranks": tuple(Rank(**rank) for rank in content.get("ranks", ())),
                "outputs": {name: Stored(**stored) for name, stored in content.get("outputs", {}).items()},
                "exit": Exit(**content["exit"]) if content.get("exit") else None,
            }
        )
