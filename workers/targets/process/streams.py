"""A copy's output, as it is kept: one line each, with its time, never more than a cap, in constant memory."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

LINE_BYTES = 16 * 1024
_ENDS = re.compile(rb"\r\n|\n|\r")


def appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


class Log:
    """Appends `2026-11-25T01:02:03.123456Z <text>` lines; beyond the cap it says so once and drops the rest."""

    def __init__(self, descriptor: int, cap_bytes: int | None) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(self._descriptor).st_size
        self._cap_bytes = cap_bytes
        self._closing = f"windlass: this log has reached {(cap_bytes or 0) // 1024**2} MiB; what follows is not kept."
        self._closed = cap_bytes is not None and self._size >= cap_bytes - 2 * LINE_BYTES
        self._partial = b""

    def feed(self, data: bytes) -> None:
        if self._closed:
            return
        *lines, partial = _ENDS.split(self._partial + data)
        pieces = [line[at : at + LINE_BYTES] for line in lines for at in range(0, len(line) or 1, LINE_BYTES)]
        while len(partial) >= LINE_BYTES:
            pieces.append(partial[:LINE_BYTES])
            partial = partial[LINE_BYTES:]
        self._partial = partial
        self._write(pieces)

    def note(self, text: str) -> None:
        """A line of the shim's own."""
        self.flush()
        self._write([f"windlass: {text}".encode()])

    def flush(self) -> None:
        """Write the last line, which has no end."""
        if self._partial and not self._closed:
            partial, self._partial = self._partial, b""
            self._write([partial])

    def close(self) -> None:
        self.flush()
        os.close(self._descriptor)

    def _write(self, pieces: list[bytes]) -> None:
        if not pieces or self._closed:
            return
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()
        kept: list[bytes] = []
        room = sys.maxsize if self._cap_bytes is None else self._cap_bytes - 2 * LINE_BYTES - self._size
        for piece in pieces:
            room -= len(stamp) + len(piece) + 1
            if room < 0:
                kept.append(stamp + self._closing.encode() + b"\n")
                self._closed, self._partial = True, b""
                break
            kept.append(stamp + piece + b"\n")
        content = b"".join(kept)
        self._size += len(content)
        try:
            while content:  # a pipe may take a part of it
                content = content[os.write(self._descriptor, content) :]
        except OSError:
            return  # the disk is full: the program goes on without a log


def tail(path: Path, limit: int = 64 * 1024) -> list[str]:
    """The last lines without their times."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            content = file.read(limit)
    except FileNotFoundError:
        return []
    return [line.partition(" ")[2] for line in content.decode(errors="replace").splitlines()]
