"""Reading what placements wrote: log and metrics streams, by byte offset, from the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from apps.placements.models import LogChunk, Placement


def read(placement: Placement, stream: str, offset: int, limit: int) -> tuple[bytes, int]:
    """Up to `limit` bytes from `offset`, and the offset behind them."""
    found = LogChunk.objects.filter(placement=placement, stream=stream, offset__lte=offset).order_by("-offset")
    first = found.values_list("offset", flat=True).first()
    if first is None:
        return b"", offset
    pieces, have = [], 0
    chunks = LogChunk.objects.filter(placement=placement, stream=stream, offset__gte=first).order_by("offset")
    for chunk in chunks.iterator(chunk_size=8):
        data = bytes(chunk.data)[max(0, offset - chunk.offset) :][: limit - have]
        pieces.append(data)
        have += len(data)
        if have >= limit:
            break
    content = b"".join(pieces)
    return content, offset + len(content)


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
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
