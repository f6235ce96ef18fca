"""The pages for what goes wrong, by status. A database that is away is no mistake of ours, and is told apart."""

from __future__ import annotations

import logging
import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.core.actor import request_id
from apps.core.pages.base import not_found

logger = logging.getLogger(__name__)
RETRY_SECONDS = "5"


def handler404(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return not_found(request)


def handler403(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "403.html", status=403)


def handler500(request: HttpRequest) -> HttpResponse:
    """500, or 503 where the database does not answer."""
    if database_away(sys.exc_info()[1]):
        response = render(request, "503.html", status=503)
        response["Retry-After"] = RETRY_SECONDS
        return response
    return render(request, "500.html", {"reference": request_id.get()}, status=500)


def database_away(error: BaseException | None) -> bool:
    """Also where another error was raised from it, or while it was handled."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OperationalError | InterfaceError) or type(error).__name__ == "PoolTimeout":
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
