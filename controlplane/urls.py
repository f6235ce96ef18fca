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
    path("", include("apps.registry.transfers")),
    path("", include("apps.clusters.joining_views")),
    path("", include("apps.deployments.replicas")),
    path("accounts/link/<str:token>", sign_in_link, name="sign-in-link"),
    path("accounts/", include("allauth.urls")),
    path("", include("apps.core.urls")),
    path("w/<slug:workspace>/", include("apps.registry.urls")),
    path("w/<slug:workspace>/training/", include("apps.training.urls")),
    path("w/<slug:workspace>/exports/", include("apps.exports.urls")),
    path("w/<slug:workspace>/deployments/", include("apps.deployments.urls")),
    path("w/<slug:workspace>/placements/", include("apps.placements.urls")),
    path("w/<slug:workspace>/hosts/", include("apps.clusters.urls")),
    path("w/<slug:workspace>/settings/", include("apps.accounts.urls")),
]

handler403 = "apps.core.pages.errors.handler403"
handler404 = "apps.core.pages.errors.handler404"
handler500 = "apps.core.pages.errors.handler500"
