"""Sealed parts over HTTP, for `carry` where the store is not on its disk.

An address of ours names one blob and one direction, is signed with the installation's key and ends after a day. It
gives ciphertext only: the data key travels in the grant. A blob that is complete takes no part any more. Where the
store itself can sign addresses (S3), inputs are read there, and POST to the address of an output answers with one that
takes that part; else the bytes pass through here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.registry import blobs
from apps.registry.models import Blob
from apps.registry.parts import OVERHEAD_BYTES, PART_BYTES, part_count, part_name

SALT = "windlass.parts"
AGE_SECONDS = 24 * 3600
WRITE_SECONDS = 300
READ, WRITE = "read", "write"
DIRECTIONS = {"GET": READ, "PUT": WRITE, "POST": WRITE}


@dataclass(frozen=True)
class Readable:
    """Where the parts of a blob can be read. `ends_at`: unix seconds until which."""

    parts: tuple[str, ...]
    ends_at: float


def to_read(blob: Blob, size_bytes: int) -> Readable:
    """Addresses of the store where it signs them: they need no web server when a program starts again."""
    store: Any = blobs.storage()
    numbers = range(part_count(size_bytes))
    if not hasattr(store, "address_to_read"):
        base = address(blob, READ)
        return Readable(tuple(f"{base}/{number}" for number in numbers), time.time() + AGE_SECONDS)
    seconds = min(AGE_SECONDS, store.lifetime_seconds())
    names = [part_name(str(blob.pk), number) for number in numbers]
    return Readable(tuple(store.address_to_read(name, seconds) for name in names), time.time() + seconds)


def address(blob: Blob, direction: str) -> str:
    """Of the control plane; part n is at `<address>/<n>`."""
    token = signing.dumps([str(blob.pk), direction], salt=SALT)
    return settings.WINDLASS_PARTS_URL + reverse("part", args=[token, 0]).removesuffix("/0")


@csrf_exempt  # the address itself is the right; no cookie counts
@require_http_methods(["GET", "PUT", "POST"])
def part(request: HttpRequest, token: str, number: int) -> HttpResponseBase:
    try:
        blob_id, direction = signing.loads(token, salt=SALT, max_age=AGE_SECONDS)
    except signing.BadSignature:
        return _said(403, "This address is not known, or has ended.")
    if direction != DIRECTIONS[request.method or ""]:
        return _said(403, "This address is for the other direction.")
    blob: Any = Blob.objects.filter(pk=blob_id).first()
    if blob is None:
        return _said(404, "There is no such blob any more.")
    name = part_name(str(blob.pk), number)
    if direction == READ:
        try:
            return FileResponse(blobs.storage().open(name), content_type="application/octet-stream")
        except FileNotFoundError:
            return _said(404, "There is no such part.")
    if blob.state != Blob.State.UPLOADING:
        return _said(409, "This blob is complete.")
    return _where(request, name) if request.method == "POST" else _take(request, name)


def _said(status: int, words: str) -> HttpResponse:
    return HttpResponse(words, status=status, content_type="text/plain")


def _where(request: HttpRequest, name: str) -> HttpResponse:
    """{"address"}: where a part of `size_bytes` is to be PUT; a path is one of ours, wherever we were reached."""
    size = request.GET.get("size_bytes", "")
    if not size.isdecimal() or int(size) > PART_BYTES + OVERHEAD_BYTES:
        return _too_large()
    store: Any = blobs.storage()
    if hasattr(store, "address_to_write"):
        return JsonResponse({"address": store.address_to_write(name, WRITE_SECONDS, int(size))})
    return JsonResponse({"address": request.path})


def _too_large() -> HttpResponse:
    return _said(413, f"A part has at most {PART_BYTES + OVERHEAD_BYTES} bytes.")


def _take(request: HttpRequest, name: str) -> HttpResponse:
    most = PART_BYTES + OVERHEAD_BYTES
    if int(request.META.get("CONTENT_LENGTH") or 0) > most:
        return _too_large()
    content = request.read(most + 1)
    if len(content) > most:
        return _too_large()
    try:
        blobs.write_part(name, content)
    except blobs.StorageFull as error:
        return _said(507, str(error))
    return HttpResponse(status=204)


urlpatterns = [path("parts/<str:token>/<int:number>", part, name="part")]
