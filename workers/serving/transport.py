"""HTTP/1.1 on one listening socket: bytes to requests, responses to bytes.

httptools parses; this is the rest of a server, small because it serves one application and no body streams. Where an
answer is there at once it is written in the same turn of the loop, without a task for each request.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from time import perf_counter
from typing import cast

import httptools

from workers.serving.app import Application
from workers.serving.messages import Refusal, Request, Response

# Longer than the hour for which Envoy keeps an idle connection, so that we never close under its next request.
IDLE_SECONDS = 3900.0
STUCK_SECONDS = 60.0
# In a replica that drains, so that it ends within the 30 s that it is given.
DRAINING_STUCK_SECONDS = 5.0
TOO_MUCH = (
    "429: the requests that wait already hold %d bytes, the most this replica keeps. "
    "Try again after 1 s (the header says so), send fewer items, or allow more replicas."
)
# Not a status that is sent: the client went before its answer.
CLIENT_LEFT = 499
LINGER_SECONDS = 2.0
MOST_HEADER_BYTES = 32 * 1024
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
WANTED_HEADERS = frozenset(
    {
        *(b"authorization", b"content-length", b"content-encoding", b"expect"),
        *(b"inference-header-content-length", b"x-windlass-shadow"),
    }
)


class Server:
    """All connections of one application, and what they share."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.buffered_bytes = 0
        self.connections: set[Connection] = set()
        self.refresh()

    def refresh(self) -> None:
        """Once a second or so: the Date header, and connections on which nothing moves."""
        date = formatdate(usegmt=True)
        self.common_headers = f"x-windlass-revision: {self.app.settings.revision}\r\ndate: {date}\r\n".encode()
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.give_up_if_stuck(now)

    def drain(self) -> None:
        """Closes what is idle; while the application drains, the others close after their answer."""
        for connection in tuple(self.connections):
            connection.close_if_idle()


class Connection(asyncio.Protocol):
    """One client. `_request`: the one being received; `_pending`: the answer that is awaited; `_waiting`: requests
    that the client sent ahead of it; `_deaf`: nothing more is read, the connection ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._app = server.app
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._request: Request | None = None
        self._received_bytes = 0
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._pending: asyncio.Future[Response] | None = None
        self._waiting: deque[Request] = deque()
        self._deaf = False
        self._write_paused = False
        self._moved_at = 0.0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._moved_at = time.monotonic()
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._deaf = True
        self._server.connections.discard(self)
        for request in (*self._waiting, *([self._request] if self._request else ())):
            self._done(request, CLIENT_LEFT)
        self._waiting.clear()
        if self._pending is not None:
            # If its turn has not come, the model need not run for nobody.
            self._pending.cancel()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._moved_at = time.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The answer was or will be given as HTTP/1.1, and ends the connection.
            self._deaf = True
        except httptools.HttpParserError as error:
            self._refuse(Refusal(400, f"This is not HTTP/1.1: {error}."))
        if self._request is not None:
            self._received_bytes += len(data)
            if not self._request.method and self._received_bytes > MOST_HEADER_BYTES:
                self._refuse(Refusal(431, f"The headers are longer than {MOST_HEADER_BYTES:,} bytes. Send fewer."))
            elif self._received_bytes > MOST_HEADER_BYTES + 2 * self._app.settings.max_body_bytes:
                self._refuse(self._too_large())
        if self._waiting:
            # The rest of what a client sends ahead stays in its own socket. Not before: reading is also what tells
            # that a client has left.
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        if not self._waiting:
            self._transport.resume_reading()

    # What httptools calls, within feed_data.

    def on_message_begin(self) -> None:
        self._received_bytes = 0
        if not self._deaf:
            self._request = Request()

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        # Not where the method is known: that would be a trailer.
        if name in WANTED_HEADERS and self._request is not None and not self._request.method:
            self._request.headers[name] = value

    def on_headers_complete(self) -> None:
        request = self._request
        if request is None:
            return
        request.method = self._parser.get_method()
        request.keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        self._app.begin(request)
        length = request.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._app.settings.max_body_bytes:
            self._refuse(self._too_large())
        elif request.headers.get(b"expect", b"").lower() == b"100-continue":
            if request.refusal is not None:
                self._refuse(None)
            elif self._pending is None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        request = self._request
        if request is None:
            return
        self._body_bytes += len(chunk)
        if self._body_bytes > self._app.settings.max_body_bytes:
            self._refuse(self._too_large())
        elif request.refusal is None:
            self._chunks.append(chunk)
            request.buffered_bytes += len(chunk)
            self._server.buffered_bytes += len(chunk)
            if self._server.buffered_bytes > self._app.settings.max_buffered_bytes:
                self._refuse(Refusal(429, TOO_MUCH % self._app.settings.max_buffered_bytes, b"retry-after: 1\r\n"))

    def on_message_complete(self) -> None:
        request = self._request
        if request is None:
            return
        request.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        request.received_at = perf_counter()
        self._request, self._chunks, self._body_bytes = None, [], 0
        if self._pending is None:
            self._answer(request)
        else:
            self._waiting.append(request)

    # Answers, in the order of the requests.

    def _answer(self, request: Request) -> None:
        answer = self._app.answer(request)
        if isinstance(answer, Response):
            self._send(request, answer)
        else:
            self._pending = answer
            answer.add_done_callback(lambda future: self._arrived(request, future))

    def _arrived(self, request: Request, future: asyncio.Future[Response]) -> None:
        self._pending = None
        if future.cancelled():
            self._done(request, CLIENT_LEFT)
            return
        self._send(request, future.result())
        while self._waiting and self._pending is None:
            self._answer(self._waiting.popleft())
        if not self._waiting and not self._write_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _send(self, request: Request, response: Response, *, linger: bool = False) -> None:
        if self._transport.is_closing():
            self._done(request, CLIENT_LEFT)
            return
        self._done(request, response.status)
        closes = not request.keep_alive or self._app.draining
        body = response.body
        self._transport.write(
            b"".join(
                (
                    STATUS_LINES[response.status],
                    self._server.common_headers,
                    b"content-type: %s\r\ncontent-length: %d\r\n" % (response.content_type, len(body)),
                    response.headers,
                    b"connection: close\r\n\r\n" if closes else b"\r\n",
                    b"" if request.method == b"HEAD" else body,
                )
            )
        )
        self._moved_at = time.monotonic()
        if closes:
            self._deaf = True
            if linger:
                # Closing now would reset the connection under a client that still sends: it would not see the answer.
                asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.close)
            else:
                self._transport.close()

    def _too_large(self) -> Refusal:
        most = self._app.settings.max_body_bytes
        return Refusal(413, f"The body is larger than {most:,} bytes, the most this replica takes. Send fewer items.")

    def _refuse(self, refusal: Refusal | None) -> None:
        """Answers a request that did not come whole, and ends the connection. What was refused before (no key) counts
        more than `refusal`."""
        request = self._request or Request()
        self._request, self._chunks, self._deaf = None, [], True
        request.keep_alive = False
        if request.refusal is None and refusal is not None:
            request.refusal = refusal.response()
        assert request.refusal is not None
        if self._pending is not None:
            self._waiting.append(request)
        else:
            self._send(request, request.refusal, linger=True)

    def _done(self, request: Request, status: int) -> None:
        self._server.buffered_bytes -= request.buffered_bytes
        self._app.done(request, status)

    # Limits of time.

    def close_if_idle(self) -> None:
        if self._request is None and self._pending is None:
            self._deaf = True
            self._transport.close()

    def give_up_if_stuck(self, now: float) -> None:
        still_seconds = now - self._moved_at
        limit_seconds = DRAINING_STUCK_SECONDS if self._app.draining else STUCK_SECONDS
        if self._pending is not None or still_seconds <= limit_seconds:
            return
        if self._write_paused or self._deaf:
            # A client that does not read its answer.
            self._transport.abort()
        elif self._request is not None:
            self._refuse(Refusal(408, f"The rest of the request did not come within {limit_seconds:.0f} s."))
        elif self._app.draining or still_seconds > IDLE_SECONDS:
            self.close_if_idle()
