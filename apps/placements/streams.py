"""Reading what placements wrote: log and metrics streams, by byte offset, from the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apps.placements.foreign import parse_json
from apps.placements.models import LogChunk, Placement


def read(placement: Placement, stream: str, offset: int, limit: int) -> tuple[bytes, int]:
    """Up to `limit` bytes in one piece from `offset`, and where they begin.

    That is later than `offset` where the bytes before were never stored: a service's log keeps only its last part on
    the host, and a worker that was away for long finds a gap.
    """
    chunks = LogChunk.objects.filter(placement=placement, stream=stream)
    covering = chunks.filter(offset__lte=offset).order_by("-offset").first()
    begins = offset
    pieces: list[bytes] = []
    have = 0
    if covering is not None and (data := bytes(covering.data)[offset - covering.offset :][:limit]):
        pieces, have = [data], len(data)
    for chunk in chunks.filter(offset__gt=offset).order_by("offset").iterator(chunk_size=8):
        if have >= limit or (pieces and chunk.offset != begins + have):
            break
        if not pieces:
            begins = chunk.offset
        data = bytes(chunk.data)[: limit - have]
        pieces.append(data)
        have += len(data)
    return b"".join(pieces), begins


def size(placement: Placement, stream: str) -> int:
    return int(placement.log_offsets.get(stream, 0))


def whole_lines(content: bytes) -> tuple[list[bytes], int]:
    """The complete lines of `content`, and how many bytes they take: a line that is still being written waits."""
    end = content.rfind(b"\n") + 1
    return content[:end].splitlines(), end


def json_lines(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """The complete JSON objects of `content`; what is no JSON object is left out."""
    lines, consumed = whole_lines(content)
    return list(_objects(lines)), consumed


def _objects(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = parse_json(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
