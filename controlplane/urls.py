"""Every address of the web server."""

from django.contrib import admin
from django.urls import include, path

from controlplane import health

urlpatterns = [
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
]
