"""Every address of the web server."""

from django.contrib import admin
from django.urls import include, path

from apps.accounts.links import sign_in_link
from controlplane import health

urlpatterns = [
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("admin/", admin.site.urls),
    path("api/v1/", include("controlplane.api_urls")),
    path("accounts/link/<str:token>", sign_in_link, name="sign-in-link"),
    path("accounts/", include("allauth.urls")),
]
