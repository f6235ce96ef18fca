"""Bytes in and out of a request with little memory: raw bodies in pieces, answers by range."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from apps.core.errors import Problem

PIECE_BYTES = 1024**2
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def body_pieces(request: Any) -> Iterator[bytes]:
    """A request's raw body, a MiB at a time. The server has spooled it to a file before, if it is large."""
    raw = request._request
    while piece := raw.read(PIECE_BYTES):
        yield piece


def byte_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """(start, end) of a Range header, end not included; None for none, or one that may be ignored.

    Raises Problem 416 for a range outside of the content.
    """
    match = RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(size_bytes, int(last) + 1 if last else size_bytes)
    if start >= end:
        problem = Problem(f"The content has {size_bytes:,} bytes; there is nothing in that range.")
        problem.status, problem.code = 416, "RangeNotSatisfiable"
        raise problem
    return start, end


def content(
    request: Any,
    size_bytes: int,
    read: Callable[[int, int], Iterator[bytes]],
    *,
    etag: str,
    media_type: str,
    filename: str,
) -> HttpResponseBase:
    """The content that `read(start, end)` yields, or the range of it that was asked for."""
    header = request.headers.get("Range", "")
    if request.headers.get("If-Range", etag) != etag:
        header = ""
    wanted = byte_range(header, size_bytes)
    start, end = wanted or (0, size_bytes)
    if request.method == "HEAD":
        response: HttpResponseBase = HttpResponse(content_type=media_type)
    else:
        pieces = read(start, end)
        asynchronous = isinstance(request._request, ASGIRequest)
        response = StreamingHttpResponse(_awaited(pieces) if asynchronous else pieces, content_type=media_type)
    if wanted:
        response.status_code = 206
        response["Content-Range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    response["Content-Length"] = str(end - start)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = etag
    response["Cache-Control"] = "private, no-cache"
    # What users stored is never shown as a page of ours.
    response["Content-Disposition"] = f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", filename)}"'
    return response


async def _awaited(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Reads one piece at a time in a thread: Django would collect a plain iterator whole, in memory."""
    following = sync_to_async(lambda: next(pieces, None))
    while (piece := await following()) is not None:
        yield piece
