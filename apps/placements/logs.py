"""Logs as people read them: text by byte offset, from whatever owner's placement is meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apps.core.errors import Missing
from apps.core.models import Managed
from apps.core.phases import DELETED
from apps.placements import streams
from apps.placements.models import Placement

LARGEST_READ_BYTES = 1024**2
TAIL_READ_BYTES = 128 * 1024


@dataclass(frozen=True)
class Log:
    """`end`: nothing will follow. `streams`: by name, how many bytes are stored of each."""

    text: str
    offset: int
    next_offset: int
    end: bool
    attempt: int
    placement: str
    streams: dict[str, int]


def placement_of(owner: Managed, attempt: int | None = None, revision: int | None = None) -> Placement | None:
    """The placement of an owner: of this attempt or the last one, of a deployment's revision or the wanted one.

    Raises Missing for an attempt that there was not.
    """
    if isinstance(owner, Placement):
        return owner
    found = Placement.objects.filter(owner_id=owner.pk).exclude(phase=DELETED)
    if owner.kind == "deployment":
        wanted: Any = revision if revision is not None else getattr(owner, "revision", 1)
        found = found.filter(slot__startswith=f"r{wanted}/")
    if attempt is not None:
        found = found.filter(attempt=attempt)
    row = found.order_by("-attempt", "-pk").first()
    if row is None and (attempt is not None or revision is not None):
        raise Missing("There are no logs of that attempt: it never began, or was cleaned up.")
    return row


def read(
    placement: Placement | None, *, stream: str = "0", offset: int = 0, limit: int = LARGEST_READ_BYTES, tail: int = 0
) -> Log:
    """Whole lines from `offset`, at most `limit` bytes; or with `tail` the last so many lines."""
    if placement is None:
        return Log("", offset, offset, False, 0, "", {})
    size = streams.size(placement, stream)
    start = tail_offset(placement, stream, size, tail) if tail else min(offset, size)
    content, start = streams.read(placement, stream, start, limit)
    following = start + len(content)
    if following < size:  # more is there: end at a line, so that no character is cut in two
        cut = content.rfind(b"\n") + 1 or len(content)
        content, following = content[:cut], start + cut
    return Log(
        text=content.decode(errors="replace"),
        offset=start,
        next_offset=following,
        end=placement.is_final and following >= size,
        attempt=placement.attempt,
        placement=placement.typed_id,
        streams={name: held for name, held in sorted(placement.log_offsets.items()) if name.isdecimal()},
    )


def tail_offset(placement: Placement, stream: str, size: int, lines: int) -> int:
    """Where the last `lines` lines begin, reading backwards no more than is needed and at most LARGEST_READ_BYTES."""
    start, content = size, b""
    while start > 0 and size - start < LARGEST_READ_BYTES:
        before = max(0, start - TAIL_READ_BYTES)
        piece, _begins = streams.read(placement, stream, before, start - before)
        start, content = before, piece + content
        if content.count(b"\n") > lines:
            break
    wanted = content.splitlines(keepends=True)[-lines:]
    return size - sum(len(line) for line in wanted)
