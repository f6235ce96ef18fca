"""A request, its answer, and a refusal: what transport, application and protocol say to one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from workers.serving.auth import Key

JSON = b"application/json"


class Refusal(Exception):
    """A request that is answered with an error. `message` says what happened, why, and what to do.

    `headers`: further header lines as they go over the wire, each ending in CRLF.
    """

    def __init__(self, status: int, message: str, headers: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers

    def response(self) -> Response:
        # Names from a request come back in the message; what no UTF-8 can carry (a lone surrogate) is replaced.
        message = self.message.encode(errors="replace").decode()
        return Response(self.status, orjson.dumps({"error": message}), self.headers)


@dataclass(slots=True)
class Response:
    """`headers`: further header lines as they go over the wire, each ending in CRLF."""

    status: int
    body: bytes
    headers: bytes = b""
    content_type: bytes = JSON


@dataclass(slots=True)
class Request:
    """One HTTP request. `method` is empty until all headers are there, `received_at` is when its last byte came
    (seconds of time.perf_counter()), `counted` tells whether it belongs into the metrics, and `refusal` is its answer
    if it has failed already. `shadow`: a copy that the gateway made; its caller neither sees the answer nor pays."""

    method: bytes = b""
    target: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    buffered_bytes: int = 0
    keep_alive: bool = True
    received_at: float = 0.0
    auth_seconds: float = 0.0
    key: Key | None = None
    counted: bool = False
    shadow: bool = False
    refusal: Response | None = None
