"""Errors as RFC 9457 problem+json: one shape for everything that can go wrong, from a missing field to a bug."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from apps.core.actor import request_id
from apps.core.errors import Conflict, FieldError, Invalid, Problem
from apps.core.wants import Deleting, NotStoppable, Outdated
from apps.registry.blobs import StorageFull, WrongContent

logger = logging.getLogger(__name__)
API_PREFIX = "/api/"
MEDIA_TYPE = "application/problem+json"
FIXES = {
    "required": "Send {field}.",
    "null": "Send a value, or leave {field} out.",
    "blank": "Send a text that is not empty.",
    "not_a_list": "Send a list.",
    "not_a_dict": "Send an object.",
    "too_deep": "Make it flatter.",
    "no_text": "Leave that character out.",
    "invalid_choice": "Use one of the values that the API's documentation lists.",
    "invalid": "Send a value of the type that the API's documentation names.",
}
WORDS = {
    400: "The request can't be read.",
    401: "Who you are is not known: send “Authorization: Bearer wl_…” with an API key, or sign in.",
    403: "You may not do this here.",
    404: "There is nothing at this address.",
    405: "This address does not answer to that method.",
    406: "Only application/json can be answered.",
    413: "The request is too large.",
    415: "This media type is not read here. Send application/json.",
    429: "Too many requests. Try again a little later.",
    500: "Windlass made a mistake. Nothing of this request was kept. The log has the reason, under the request id.",
}


def document(
    request: Any, status: int, code: str, detail: str, errors: tuple[FieldError, ...] | list[FieldError] = ()
) -> dict[str, Any]:
    return {
        "type": f"urn:windlass:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "code": code,
        "request_id": request_id.get(),
        "errors": [{"field": error.field, "detail": error.detail, "fix": error.fix} for error in errors],
    }


def handle(error: Exception, context: dict[str, Any]) -> Response:
    """The exception handler of every API view."""
    request = context["request"]
    headers: dict[str, str] = {}
    problem = as_known(error)
    if problem is None:
        logger.error("%s %s failed, request %s", request.method, request.path, request_id.get(), exc_info=error)
        problem = Problem(WORDS[500], code="InternalError")
        problem.status = 500
    if isinstance(error, exceptions.APIException):
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
        if (wait := getattr(error, "wait", None)) is not None:
            headers["Retry-After"] = str(int(wait) + 1)
    if problem.code == "InProgress":
        headers["Retry-After"] = "1"
    set_rollback()
    body = document(request, problem.status, problem.code, problem.detail, problem.errors)
    response = Response(body, status=problem.status, headers=headers, content_type=MEDIA_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def as_known(error: Exception) -> Problem | None:
    """What is meant by an exception that a request can bring about; None for a bug."""
    match error:
        case Problem():
            return error
        case Outdated():
            return _with_status(f"{error} Read it again, then decide.", 412, "Outdated")
        case Deleting():
            return Conflict(f"{error} Nothing comes back from that.", code="Deleting")
        case NotStoppable():
            return Conflict(str(error), code="NotPossible")
        case WrongContent():
            return Invalid(FieldError.of("", str(error)), code="WrongContent")
        case StorageFull():
            return _with_status(str(error), 507, "StorageFull")
        case RequestDataTooBig():
            return _with_status("The body is too large for this address.", 413, "TooLarge")
        case exceptions.ValidationError():
            return Invalid(*flatten(error.detail))
        case Http404() | exceptions.NotFound():
            return _with_status(WORDS[404], 404, "NotFound")
        case PermissionDenied() | exceptions.PermissionDenied():
            return _with_status(str(getattr(error, "detail", "")) or WORDS[403], 403, "Forbidden")
        case exceptions.APIException():
            status = error.status_code
            known = status not in {401, 400} and status in WORDS
            detail = WORDS[status] if known else str(error.detail)
            if isinstance(error, exceptions.NotAuthenticated):
                detail = WORDS[401]
            return _with_status(detail, status, code_of(status))
    return None


def code_of(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.split())


def _with_status(detail: str, status: int, code: str) -> Problem:
    problem = Problem(detail, code=code)
    problem.status = status
    return problem


def flatten(detail: Any, path: str = "") -> Iterator[FieldError]:
    """Field errors of REST framework's nested form, with dotted names."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = "" if name in {"non_field_errors", "detail"} else str(name)
            yield from flatten(inner, ".".join(part for part in (path, own) if part))
    elif isinstance(detail, list | tuple):
        for index, inner in enumerate(detail):
            yield from flatten(inner, f"{path}.{index}" if isinstance(inner, dict) else path)
    else:
        code = getattr(detail, "code", "invalid")
        if code == "told":  # the text holds its own fix
            yield FieldError.of(path, str(detail))
        else:
            name = path or "an object"
            yield FieldError(path, str(detail), FIXES.get(code, "").format(field=f"“{name}”"))


def as_problem(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """An error that Django itself answered, in our shape."""
    if str(response.headers.get("Content-Type", "")).startswith((MEDIA_TYPE, "application/json")):
        return response
    status = response.status_code
    detail = WORDS.get(status, HTTPStatus(status).phrase)
    body = json.dumps(document(request, status, code_of(status), detail))
    answer = HttpResponse(body, status=status, content_type=MEDIA_TYPE)
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in response.headers:
            answer[name] = response.headers[name]
    return answer


@csrf_exempt
def nothing_here(request: HttpRequest) -> HttpResponse:
    """For every address below /api/ that is none."""
    body = json.dumps(document(request, 404, "NotFound", WORDS[404]))
    return HttpResponse(body, status=404, content_type=MEDIA_TYPE)
