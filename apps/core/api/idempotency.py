"""Idempotency-Key: a POST sent twice is done once, and answered the same.

The work and the stored answer are one transaction, so that a process killed in between has done nothing. Answers are
sealed, since one may hold a new API key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.encoding import escape_uri_path
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from apps.core.actor import Actor
from apps.core.errors import Conflict, FieldError, Invalid, Problem
from apps.core.models import IdempotencyRecord
from apps.core.sealing import seal, unseal

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
ABANDONED = timedelta(seconds=60)
KEPT_HEADERS = ("ETag",)


def once(view: Any, request: Any, actor: Actor, handler: Callable[[], Response]) -> Response:
    """Do it, or answer what was answered before. Raises Invalid, Conflict for a key that can't be used.

    Actions that a view names in `outside_transaction` change storage too; they may run again after a crash.
    """
    record, mine = _take(request, actor)
    if not mine:
        return _replay(record)
    try:
        with nullcontext() if view.action in view.outside_transaction else transaction.atomic():
            response = handler()
            _store(record, response)
            return response
    except Exception as error:  # becomes the answer; what the handler wrote is rolled back
        response = view.handle_exception(error)
        if response.status_code >= 500:
            record.delete()
        else:
            _store(record, response)
        return response


def _take(request: Any, actor: Actor) -> tuple[IdempotencyRecord, bool]:
    key = request.headers[HEADER]
    if not 1 <= len(key) <= 200 or not key.isprintable():
        detail = "The Idempotency-Key must have 1 to 200 printable characters."
        raise Problem(detail, code="IdempotencyKeyBad", errors=[FieldError(HEADER, detail, "Send a UUID.")])
    owner, route = actor.id, escape_uri_path(request.path)[:400]  # an address may hold what no database takes
    digest = salted_hmac("windlass.idempotency", request._request.body, algorithm="sha256").hexdigest()
    same = IdempotencyRecord.objects.filter(owner=owner, route=route, key=key)
    same.filter(created_at__lt=timezone.now() - KEPT).delete()
    draft = IdempotencyRecord(owner=owner, route=route, key=key, body_sha256=digest)
    IdempotencyRecord.objects.bulk_create([draft], ignore_conflicts=True)
    record = same.get()
    if record.pk == draft.pk:
        return record, True
    if record.body_sha256 != digest:
        raise Invalid(
            FieldError(HEADER, "This Idempotency-Key was used with another body.", "Send a new key for a new request."),
            code="IdempotencyKeyReused",
        )
    if record.status:
        return record, False
    # Its process may have been killed: nothing of it was kept then, and whoever moves the time goes on.
    abandoned = same.filter(status=0, created_at=record.created_at, created_at__lt=timezone.now() - ABANDONED)
    if abandoned.update(created_at=Now()):
        return record, True
    raise Conflict("The first request with this Idempotency-Key is still at work. Ask again in 1 s.", code="InProgress")


def _context(record: IdempotencyRecord) -> str:
    return f"idempotency|{record.pk}"


def _store(record: IdempotencyRecord, response: Response) -> None:
    body = JSONRenderer().render(response.data) if response.data is not None else b"null"
    content_type = response.content_type
    headers = {name: response[name] for name in KEPT_HEADERS if name in response.headers}
    if content_type:
        headers["Content-Type"] = content_type
    IdempotencyRecord.objects.filter(pk=record.pk).update(
        status=response.status_code, response={"sealed": seal(body, _context(record))}, headers=headers
    )


def _replay(record: IdempotencyRecord) -> Response:
    body = json.loads(unseal((record.response or {})["sealed"], _context(record)))
    headers = dict(record.headers)
    content_type = headers.pop("Content-Type", None)
    response = Response(body, status=record.status, headers=headers, content_type=content_type)
    response["Idempotent-Replayed"] = "true"
    return response
