"""The link that signs in once: GET shows a button, so that a mail program that looks at links does not use it up."""

from __future__ import annotations

from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods

from apps.accounts.services import link_user, use_link
from apps.core.errors import Missing


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@csrf_protect
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    if request.method == "POST":
        try:
            user = use_link(token)
        except Missing as error:
            return _page(request, None, error.detail, 410)
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        return HttpResponseRedirect("/")
    found = link_user(token)
    problem = "" if found else "This link was used already, or has ended. Ask an admin for a new one."
    return _page(request, found.email if found else None, problem, 200 if found else 410)


def _page(request: HttpRequest, email: str | None, problem: str, status: int) -> HttpResponse:
    return render(request, "accounts/link.html", {"email": email, "problem": problem}, status=status)
