"""The address at which replicas far away pull the auth bundle and push what they answered.

It is signed for one placement, ends after a day (it is renewed with the placement's grants) and with the placement.
GET gives the bundle, or 304 where the ETag is still right. POST `?stream=metrics-<replica>&offset=<n>` takes bytes of
the replica's usage from that offset on, once: {"next_offset"} says where to go on, also in a 409 for a gap.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.core.wants import wake
from apps.deployments.bundles import tagged
from apps.deployments.models import Deployment, UsageCursor
from apps.placements.models import LogChunk, Placement

SALT = "windlass.replica"
AGE_SECONDS = 24 * 3600
PUSH_BYTES = 256 * 1024
MOST_STREAMS = 1000
_STREAM = re.compile(r"metrics-[a-z0-9-]{1,16}")


def address(placement: Placement) -> str:
    token = signing.dumps(str(placement.pk), salt=SALT)
    return settings.WINDLASS_PARTS_URL + reverse("replica", args=[token])


@csrf_exempt  # the address itself is the right; no cookie counts
@require_http_methods(["GET", "POST"])
def replica(request: HttpRequest, token: str) -> HttpResponse:
    try:
        placement_id = UUID(signing.loads(token, salt=SALT, max_age=AGE_SECONDS))
    except (signing.BadSignature, ValueError):
        return _said(403, "This address is not known, or has ended.")
    return _bundle(request, placement_id) if request.method == "GET" else _push(request, placement_id)


def _said(status: int, words: str) -> HttpResponse:
    return HttpResponse(words, status=status, content_type="text/plain")


def _bundle(request: HttpRequest, placement_id: UUID) -> HttpResponse:
    status, content, tag = _made(placement_id, int(time.time()))
    if status != 200:
        return _said(status, content.decode())
    if request.headers.get("If-None-Match") == tag:
        return HttpResponseNotModified(headers={"ETag": tag})
    return HttpResponse(content, content_type="application/json", headers={"ETag": tag, "Cache-Control": "no-store"})


@lru_cache(maxsize=256)  # many replicas ask at once: their bundle is made once a second
def _made(placement_id: UUID, _second: int) -> tuple[int, bytes, str]:
    """(status, bundle or words, ETag)"""
    found = Placement.objects.filter(pk=placement_id).only("phase", "owner_kind", "owner_id").first()
    if found is None:
        return 404, b"There is no such placement any more.", ""
    deployment = Deployment.objects.filter(pk=found.owner_id).first() if found.owner_kind == "deployment" else None
    if found.is_final or deployment is None:
        return 410, b"This placement has ended.", ""
    return 200, *tagged(deployment)


def _push(request: HttpRequest, placement_id: UUID) -> HttpResponse:
    stream, begins = request.GET.get("stream", ""), request.GET.get("offset", "")
    if not _STREAM.fullmatch(stream) or not (begins.isdecimal() and len(begins) < 19):
        return _said(400, "Name the stream (metrics-<replica>) and the offset of the first byte.")
    content = request.read(PUSH_BYTES + 1)
    if len(content) > PUSH_BYTES:
        return _said(413, f"At most {PUSH_BYTES} bytes are taken at once.")
    placement = Placement.objects.filter(pk=placement_id).only("phase", "owner_kind", "owner_id").first()
    if placement is None:
        return _said(404, "There is no such placement any more.")
    if placement.is_final or placement.owner_kind != "deployment":
        return _said(410, "This placement has ended.")
    if not UsageCursor.objects.filter(placement_id=placement_id, stream=stream).exists():
        if UsageCursor.objects.filter(placement_id=placement_id).count() >= MOST_STREAMS:
            return _said(429, f"A placement has at most {MOST_STREAMS} of these streams.")
        UsageCursor.objects.get_or_create(placement_id=placement_id, stream=stream)
    before, after = _keep(placement, stream, int(begins), content)
    if after > before:
        wake("deployment", [placement.owner_id])  # outside the transaction: whoever reads usage locks it first
    return JsonResponse({"next_offset": after}, status=409 if int(begins) > before else 200)


def _keep(placement: Placement, stream: str, begins: int, content: bytes) -> tuple[int, int]:
    """Keep what is new of it. Returns how far the stream went before and goes now."""
    with transaction.atomic():
        cursor: Any = UsageCursor.objects.select_for_update().get(placement_id=placement.pk, stream=stream)
        before = cursor.pushed
        new = content[before - begins :] if begins <= before else b""
        if new:
            LogChunk.objects.create(placement_id=placement.pk, stream=stream, offset=before, data=new)
            UsageCursor.objects.filter(pk=cursor.pk).update(pushed=before + len(new))
    return before, before + len(new)


urlpatterns = [path("replicas/<str:token>", replica, name="replica")]
