"""Who acts, and within which request: told to every event and audit entry."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

request_id: ContextVar[str] = ContextVar("request_id", default="")


@dataclass(frozen=True)
class Actor:
    """`id`: "user:usr_...", "key:key_...", "schedule" or "windlass"; `name` is for people."""

    id: str
    name: str


WINDLASS = Actor("windlass", "Windlass")
SCHEDULE = Actor("schedule", "Schedule")
