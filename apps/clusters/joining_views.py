"""What a machine that joins asks of the web server. JSON in and out, no session.

The answers hold the installation's keys, so they are for the door alone, which shows its secret, and says which host
asks it (workers/door/door.py). Whoever asks in another way is told that there is nothing here.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from apps.clusters import joining
from apps.core.version import source_digest


def for_the_door(view: Callable[[HttpRequest], JsonResponse]) -> Callable[[HttpRequest], JsonResponse]:
    @functools.wraps(view)
    def guarded(request: HttpRequest) -> JsonResponse:
        shown, secret = request.headers.get("X-Windlass-Door", ""), _secret_of_the_door()
        if not secret or not hmac.compare_digest(shown.encode(), secret.encode()):
            raise Http404
        return view(request)

    return guarded


def _secret_of_the_door() -> str:
    try:
        return str(json.loads((settings.WINDLASS_DOOR_DIRECTORY / "identity.json").read_bytes())["secret"])
    except (OSError, ValueError, KeyError):
        return ""


@for_the_door
@require_GET
def authority(request: HttpRequest) -> JsonResponse:
    """{"authority": PEM, "version", "time": unix seconds}. Whoever asks knows the authority's checksum already."""
    told = {"authority": joining.authority().certificate, "version": source_digest(), "time": time.time()}
    return JsonResponse(told)


@for_the_door
@csrf_exempt  # the invitation's secret is the right; no cookie counts
@require_POST
def join(request: HttpRequest) -> JsonResponse:
    """{"secret", "request", "version", "address", "cpus", "memory_bytes", "host_id"} -> what `joining.join` gives."""
    try:
        given = _given(request)
        secret = base64.b64decode(str(given["secret"]), validate=True)
        machine = joining.Machine(
            request=str(given["request"]),
            version=str(given["version"]),
            address=str(given["address"])[:100],
            cpus=float(given["cpus"]),
            memory_bytes=int(given["memory_bytes"]),
            host_id=str(given.get("host_id") or ""),
        )
        return JsonResponse(joining.join(secret, machine))
    except joining.NotLetIn as refusal:
        return _refused(refusal.status, refusal.message)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return _refused(400, "This is no request to join. Bring both machines to the same version, then try again.")


@for_the_door
@csrf_exempt  # no cookie counts; the door has asked for the host's key
@require_POST
def renew(request: HttpRequest) -> JsonResponse:
    """{"request"} -> {"certificate", "keys"}"""
    try:
        host_id = request.headers.get("X-Windlass-Host", "")
        return JsonResponse(joining.renew(host_id, str(_given(request)["request"])))
    except joining.NotLetIn as refusal:
        return _refused(refusal.status, refusal.message)
    except (KeyError, ValueError):
        return _refused(400, "This is no request to renew a certificate. Bring both machines to the same version.")


def _given(request: HttpRequest) -> dict[str, Any]:
    given = json.loads(request.body)
    if not isinstance(given, dict):
        raise ValueError("not an object")
    return given


def _refused(status: int, message: str) -> JsonResponse:
    return JsonResponse({"message": message}, status=status)


urlpatterns = [
    path("hosts/authority", authority),
    path("hosts/join", join),
    path("hosts/renew", renew),
]
