"""Sealed parts over HTTP, for `carry` on a host that can't reach the store itself (an object store, another machine).

An address names one blob and one direction, is signed with the installation's key and ends after a week. It gives
ciphertext only: the data key travels in the grant. A blob that is complete takes no part any more.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import signing
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.registry import blobs
from apps.registry.models import Blob
from apps.registry.parts import OVERHEAD_BYTES, PART_BYTES, part_name

SALT = "windlass.parts"
AGE_SECONDS = 7 * 24 * 3600
READ, WRITE = "read", "write"


def address(blob: Blob, direction: str) -> str:
    """Part n is at `<address>/<n>`."""
    token = signing.dumps([str(blob.pk), direction], salt=SALT)
    return settings.WINDLASS_PARTS_URL + reverse("part", args=[token, 0]).removesuffix("/0")


@csrf_exempt  # the address itself is the right; no cookie counts
@require_http_methods(["GET", "PUT"])
def part(request: HttpRequest, token: str, number: int) -> HttpResponseBase:
    try:
        blob_id, direction = signing.loads(token, salt=SALT, max_age=AGE_SECONDS)
    except signing.BadSignature:
        return HttpResponse("This address is not known, or has ended.", status=403, content_type="text/plain")
    if direction != {"GET": READ, "PUT": WRITE}[request.method or ""]:
        return HttpResponse("This address is for the other direction.", status=403, content_type="text/plain")
    blob: Any = Blob.objects.filter(pk=blob_id).first()
    if blob is None:
        return HttpResponse("There is no such blob any more.", status=404, content_type="text/plain")
    name = part_name(str(blob.pk), number)
    if direction == READ:
        try:
            return FileResponse(blobs.storage().open(name), content_type="application/octet-stream")
        except FileNotFoundError:
            return HttpResponse("There is no such part.", status=404, content_type="text/plain")
    return _take(request, blob, name)


def _take(request: HttpRequest, blob: Blob, name: str) -> HttpResponse:
    most = PART_BYTES + OVERHEAD_BYTES
    if int(request.META.get("CONTENT_LENGTH") or 0) > most:
        return HttpResponse(f"A part has at most {most} bytes.", status=413, content_type="text/plain")
    if blob.state != Blob.State.UPLOADING:
        return HttpResponse("This blob is complete.", status=409, content_type="text/plain")
    content = request.read(most + 1)
    if len(content) > most:
        return HttpResponse(f"A part has at most {most} bytes.", status=413, content_type="text/plain")
    try:
        blobs.write_part(name, content)
    except blobs.StorageFull as error:
        return HttpResponse(str(error), status=507, content_type="text/plain")
    return HttpResponse(status=204)


urlpatterns = [path("parts/<str:token>/<int:number>", part, name="part")]
