"""A form that is sent twice acts once: its key, its owner and its address name what was done, and where it led."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import cast

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.utils import timezone

from apps.core.actor import Actor
from apps.core.models import IdempotencyRecord

FIELD = "idempotency_key"
WAIT_SECONDS = 10.0
ABANDONED = timedelta(seconds=60)


def once(request: HttpRequest, actor: Actor, work: Callable[[], str], said: str = "") -> HttpResponseRedirect:
    """`work` acts and returns where to go; it and the note that it was done are one transaction.

    A form without a key (a hand-made request) acts each time. What `work` raises leaves no trace.
    """
    key = request.POST.get(FIELD, "")[:200]
    if not key.isprintable() or not key:
        return _go(request, _acted(work), said)
    route = f"page {request.path}"[:400]
    same = IdempotencyRecord.objects.filter(owner=actor.id, route=route, key=key)
    draft = IdempotencyRecord(owner=actor.id, route=route, key=key, body_sha256="")
    same.filter(status=0, created_at__lt=timezone.now() - ABANDONED).delete()
    IdempotencyRecord.objects.bulk_create([draft], ignore_conflicts=True)
    if not same.filter(pk=draft.pk).exists():
        return HttpResponseRedirect(_first_answer(same, request.path))
    try:
        with transaction.atomic():
            where = work()
            same.update(status=303, response={"location": where})
    except BaseException:
        same.delete()
        raise
    return _go(request, where, said)


def pressed_before(request: HttpRequest, actor: Actor) -> bool:
    """For a form whose answer is shown once (a new key) and so can't be a redirect: was this one sent already?

    Call it within the transaction of the act, so that a refused one may be sent again.
    """
    key = request.POST.get(FIELD, "")[:200]
    if not key or not key.isprintable():
        return False
    route = f"page {request.path}"[:400]
    draft = IdempotencyRecord(
        owner=actor.id, route=route, key=key, body_sha256="", status=303, response={"location": request.path}
    )
    IdempotencyRecord.objects.bulk_create([draft], ignore_conflicts=True)
    return not IdempotencyRecord.objects.filter(pk=draft.pk).exists()


def _acted(work: Callable[[], str]) -> str:
    with transaction.atomic():
        return work()


def _first_answer(same: object, path: str) -> str:
    """Where the first press led, waiting a little while it is still at work."""
    ends = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < ends:
        record = same.first()  # type: ignore[attr-defined]
        if record is None:
            return path  # the first was refused, and says so
        if record.status:
            return cast(str, record.response["location"])
        time.sleep(0.05)
    return path


def _go(request: HttpRequest, where: str, said: str) -> HttpResponseRedirect:
    if said:
        messages.success(request, said)
    return HttpResponseRedirect(where)
