"""What a machine that joins asks of the web server, all of it through the door. JSON in and out, no session."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from apps.clusters import joining
from apps.core.version import source_digest


@require_GET
def authority(request: HttpRequest) -> JsonResponse:
    """{"authority": PEM, "version", "time": unix seconds}. Whoever asks knows the authority's checksum already."""
    told = {"authority": joining.authority().certificate, "version": source_digest(), "time": time.time()}
    return JsonResponse(told)


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


@csrf_exempt  # signed by the host's own key
@require_POST
def renew(request: HttpRequest) -> JsonResponse:
    """{"certificate", "request"} -> {"certificate"}"""
    try:
        given = _given(request)
        return JsonResponse({"certificate": joining.renew(str(given["certificate"]), str(given["request"]))})
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
