"""Is the web process alive, and can it do its work? For `make up`, container health checks and load balancers."""

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse


def livez(request: HttpRequest) -> HttpResponse:
    """200 as long as the process answers at all."""
    return HttpResponse("ok\n", content_type="text/plain")


def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers, else 503 with the reason."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        return JsonResponse({"ready": False, "database": str(error).strip()}, status=503)
    return JsonResponse({"ready": True, "database": "ok"})
