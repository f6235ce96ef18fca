"""The log of a page: the streams of a placement, merged by time, in the JSON that static/js/log.js reads.

A cursor holds the placement and how far each of its streams was read; when another attempt or revision has taken
over, its log follows from its beginning.
"""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from apps.core.checks import whole
from apps.placements import logs
from apps.placements.models import Placement

LINES = 200
EARLIER = 500
READ_BYTES = 512 * 1024
LINE = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) (.*)")
FAIL = re.compile(r"\b(error|exception|traceback|fatal|failed|critical)\b", re.IGNORECASE)
WARN = re.compile(r"\bwarn(ing)?\b", re.IGNORECASE)


def answer(request: HttpRequest, placement: Placement | None, noun: str, ended: bool) -> HttpResponse:
    """`noun`: what a stream is called ("replica"); `ended`: nothing will be written any more, in no placement."""
    if request.GET.get("as") == "text":
        return _download(placement)
    if placement is None:
        return JsonResponse({"lines": [], "next": "", "previous": None, "ended": ended})
    streams = sorted((name for name in placement.log_offsets if name.isdecimal()), key=int)
    wanted = request.GET.get("source", "")
    chosen = [name for name in streams if not wanted or wanted == f"{noun} {name}"]
    after, before = (_parse(request.GET.get(name, ""), placement) for name in ("after", "before"))
    found: list[dict[str, Any]] = []
    ends: dict[str, int] = {}
    starts: dict[str, int] = {}
    for stream in chosen:
        if after is not None:
            log = logs.read(placement, stream=stream, offset=after.get(stream, 0), limit=READ_BYTES)
        elif before is not None:
            log = _earlier(placement, stream, before.get(stream, 0))
        else:
            log = logs.read(placement, stream=stream, tail=LINES)
        starts[stream], ends[stream] = log.offset, log.next_offset
        found += _lines(log.text, log.offset, stream, noun if len(streams) > 1 else "")
    if len(chosen) > 1:  # a stream by itself is in order already
        found.sort(key=lambda line: line["time"] or "")
    previous = _cursor(placement, starts) if any(starts.values()) else None
    finished = ended and all(ends[stream] >= placement.log_offsets[stream] for stream in chosen)
    return JsonResponse(
        {"lines": found, "next": _cursor(placement, {**(after or {}), **ends}), "previous": previous, "ended": finished}
    )


def _earlier(placement: Placement, stream: str, end: int) -> logs.Log:
    start = logs.tail_offset(placement, stream, end, EARLIER)
    found = logs.read(placement, stream=stream, offset=start, limit=max(1, end - start))
    text = found.text if end > start else ""
    return logs.Log(text, start, end, False, found.attempt, found.placement, found.streams)


def _lines(text: str, offset: int, stream: str, noun: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    moment = None
    for line in text.splitlines(keepends=True):
        match = LINE.match(line.rstrip("\n"))
        words = match[2] if match else line.rstrip("\n")
        moment = match[1] if match else moment  # a line without a time belongs to the one before it
        lines.append(
            {
                "id": f"{stream}-{offset}",
                "time": moment,
                "level": "fail" if FAIL.search(words) else "warn" if WARN.search(words) else "",
                "source": f"{noun} {stream}" if noun else "",
                "series": int(stream) % 6,
                "text": words,
            }
        )
        offset += len(line.encode())
    return lines


def _cursor(placement: Placement, offsets: dict[str, int]) -> str:
    return "|".join([placement.typed_id, *(f"{name}:{offset}" for name, offset in offsets.items())])


def _parse(cursor: str, placement: Placement) -> dict[str, int] | None:
    """None without a cursor; nothing read yet where it belongs to another placement."""
    if not cursor:
        return None
    head, *parts = cursor.split("|")
    if head != placement.typed_id:
        return {}
    pairs = (part.partition(":") for part in parts)
    found = {name: whole(offset) for name, _, offset in pairs if name.isdecimal()}
    return {name: offset for name, offset in found.items() if offset is not None}


def _download(placement: Placement | None) -> HttpResponse:
    streams = sorted((placement.log_offsets if placement else {}), key=str)
    texts = [logs.read(placement, stream=name).text for name in streams if name.isdecimal()]
    response = HttpResponse("".join(texts), content_type="text/plain; charset=utf-8")
    name = placement.typed_id if placement else "empty"
    response["Content-Disposition"] = f'attachment; filename="{name}.log"'
    return response
