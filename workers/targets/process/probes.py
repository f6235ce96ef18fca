"""One HTTP GET to a replica on this machine, without blocking the shim."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from apps.placements.workload import Probe
from workers.targets.process.loop import Loop


class Asking:
    """Ask once; `answered` is called exactly once with whether the answer was 200, unless `cancel` came first."""

    def __init__(self, loop: Loop, address: tuple[str, int], probe: Probe, answered: Callable[[bool], None]) -> None:
        self._loop, self._probe, self._answered = loop, probe, answered
        self._host = address[0]
        self._received = b""
        self._socket: socket.socket | None = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.connect_ex(address)
        loop.watch(self._socket, self._connected, writable=True)
        loop.after(probe.timeout_seconds, lambda: self._end(False))

    def cancel(self) -> None:
        if self._socket:
            self._loop.unwatch(self._socket)
            self._socket.close()
            self._socket = None

    def _end(self, good: bool) -> None:
        if self._socket:
            self.cancel()
            self._answered(good)

    def _connected(self) -> None:
        assert self._socket
        request = f"GET {self._probe.path} HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n"
        try:
            self._socket.send(request.encode())
        except OSError:
            return self._end(False)
        self._loop.unwatch(self._socket)
        self._loop.watch(self._socket, self._readable)

    def _readable(self) -> None:
        assert self._socket
        try:
            data = self._socket.recv(1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        line, found, _ = self._received.partition(b"\r\n")
        if found or not data or len(self._received) > 1024:
            self._end(line.split(b" ")[1:2] == [b"200"])


def placeholder(address: str, port: int) -> socket.socket:
    """Keep a port ours without listening on it: clients are refused while no replica has its own socket open.

    `port`: the one to have if it is free, else any (0).
    """
    held = _bound(address, port) if port else None
    return held or _bound(address, 0, must=True)  # type: ignore[return-value]


def listening(address: str, port: int) -> socket.socket:
    """A fresh listening socket on a port that a placeholder keeps. Only the program may keep it open."""
    opened = _bound(address, port, must=True)
    assert opened
    opened.listen(1024)
    return opened


def _bound(address: str, port: int, *, must: bool = False) -> socket.socket | None:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        opened.bind((address, port))
    except OSError:
        opened.close()
        if must:
            raise
        return None
    return opened


def inherited(opened: socket.socket) -> int:
    """Called in the new process: the number under which the program finds the socket."""
    os.set_inheritable(opened.fileno(), True)
    return opened.fileno()
