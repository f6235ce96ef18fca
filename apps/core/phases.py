"""A managed kind's phases as a table that reads like a state diagram.

The table is the law: the engine refuses an undeclared transition, the dashboard and the docs draw theirs from it.
Each kind has `cleaning`, through which every ending passes, and `deleted`.
"""

from __future__ import annotations

from dataclasses import dataclass

CLEANING = "cleaning"
DELETED = "deleted"


class IllegalTransition(Exception):
    """A step returned a phase that its table does not declare: a bug in the step or in the table."""


@dataclass(frozen=True)
class Phase:
    """`word` and `tone` (ok, run, wait, warn, bad, off) are what a pill shows; `to` are the phases that may follow
    (`cleaning` may follow any but a final one, and a final one on delete). `final`: nothing happens until a delete.
    `part`: what this time is called in the phase timeline ("" is not drawn)."""

    name: str
    word: str
    tone: str
    to: tuple[str, ...] = ()
    final: bool = False
    part: str = ""
    timeline_tone: str = ""


class Phases(dict[str, Phase]):
    """By name, in the order written; the first is where a row begins."""

    def __init__(self, *phases: Phase, endings: tuple[str, ...]) -> None:
        cleaning = Phase(
            CLEANING, "Cleaning up", "run", to=(*endings, DELETED), part="cleaning up", timeline_tone="wait"
        )
        deleted = Phase(DELETED, "Deleted", "off", final=True)
        super().__init__({phase.name: phase for phase in (*phases, cleaning, deleted)})
        self.initial = phases[0].name
        self.endings = endings
        unknown = {name for phase in self.values() for name in phase.to} - set(self)
        if unknown:
            raise ValueError(f"phases lead to undeclared ones: {sorted(unknown)}")

    def allows(self, old: str, new: str) -> bool:
        return new == old or new in self[old].to or (new == CLEANING and old != DELETED)

    def check(self, old: str, new: str) -> None:
        if new not in self or not self.allows(old, new):
            raise IllegalTransition(f"{old} -> {new} is not in the table")

    @property
    def final(self) -> frozenset[str]:
        return frozenset(name for name, phase in self.items() if phase.final)

    def choices(self) -> list[tuple[str, str]]:
        return [(phase.name, phase.word) for phase in self.values()]


def job_endings() -> tuple[Phase, ...]:
    """How a job can have ended."""
    return (
        Phase("succeeded", "Succeeded", "ok", final=True),
        Phase("failed", "Failed", "bad", final=True),
        Phase("cancelled", "Cancelled", "off", final=True),
    )


JOB_ENDINGS = ("succeeded", "failed", "cancelled")
