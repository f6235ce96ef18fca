"""Every request has an id, which stands in each event, audit entry, log line and problem that comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from apps.core import ids
from apps.core.actor import request_id
from apps.core.api.problems import API_PREFIX, as_problem

client_address: ContextVar[str | None] = ContextVar("client_address", default=None)
HEADER = "X-Request-Id"
ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{8,64}")


@sync_and_async_middleware
def request_context(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Set the id (the caller's own, if it sent a good one) and the address; answer it back as X-Request-Id.

    Below /api/ every error leaves as problem+json, also those that Django itself answers.
    """
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            _before(request)
            return _after(request, await get_response(request))

        return asynchronous

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        _before(request)
        return _after(request, get_response(request))

    return synchronous


def _before(request: HttpRequest) -> None:
    given = request.headers.get(HEADER, "")
    request_id.set(given if ACCEPTED.fullmatch(given) else ids.typed("req", ids.uuid7()))
    client_address.set(request.META.get("REMOTE_ADDR") or None)


def _after(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code >= 400 and request.path.startswith(API_PREFIX):
        response = as_problem(request, response)
    response.headers[HEADER] = request_id.get()
    return response
