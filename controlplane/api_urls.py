"""Every address of the API, below /api/v1/, and its documentation."""

from typing import Any

from csp.decorators import csp_update
from django.urls import path, re_path
from django.views.decorators.cache import cache_control
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from apps.accounts import api as accounts
from apps.clouds.api import CloudAccountView, OfferView
from apps.clusters.api import ClusterView, HostView
from apps.core.api.events import EventView
from apps.core.api.problems import nothing_here
from apps.deployments.api import DeploymentView
from apps.exports.api import ExportView
from apps.placements.api import PlacementView
from apps.placements.places_api import PlaceView
from apps.registry.api import DatasetVersionView, DatasetView, ModelVersionView, ModelView
from apps.registry.blobs_api import BlobView
from apps.training.api import RecipeView, TrainingRunView

WORKSPACE = "workspaces/<str:workspace>"
VIEWS: dict[str, Any] = {
    "datasets": DatasetView,
    "dataset-versions": DatasetVersionView,
    "models": ModelView,
    "model-versions": ModelVersionView,
    "training-runs": TrainingRunView,
    "exports": ExportView,
    "deployments": DeploymentView,
    "placements": PlacementView,
    "cloud-accounts": CloudAccountView,
    "offers": OfferView,
    "clusters": ClusterView,
    "hosts": HostView,
    "places": PlaceView,
    "events": EventView,
    "api-keys": accounts.ApiKeyView,
    "members": accounts.MemberView,
    "secrets": accounts.SecretView,
    "audit": accounts.AuditView,
    "blobs": BlobView,
}


class Router(SimpleRouter):
    """Addresses without a slash at the end, with ids as they are shown."""

    def __init__(self) -> None:
        super().__init__(trailing_slash=False, use_regex_path=False)


router = Router()
for name, view in VIEWS.items():
    view.lookup_url_kwarg = view.lookup_field = "id"
    router.register(f"{WORKSPACE}/{name}", view, basename=name)

DOCS_POLICY = {"style-src": "'unsafe-inline'"}  # Swagger UI sets style attributes; its scripts are our own files
OPEN: dict[str, Any] = {"authentication_classes": (), "permission_classes": ()}  # the document tells no secret
schema = SpectacularJSONAPIView.as_view(**OPEN)
docs = SpectacularSwaggerSplitView.as_view(url_name="api-schema", **OPEN)

urlpatterns = [
    path("me", accounts.MeView.as_view({"get": "retrieve"}), name="me"),
    path("recipes", RecipeView.as_view({"get": "list"}), name="recipes"),
    # One stream of unknown size: a PUT on the collection, which the router does not know.
    path(
        f"{WORKSPACE}/blobs",
        BlobView.as_view({"post": "create", "put": "store"}, basename="blobs", detail=False),
        name="blobs-list",
    ),
    *router.urls,
    path("schema", cache_control(max_age=60)(schema), name="api-schema"),
    path("docs", csp_update(DOCS_POLICY)(docs), name="api-docs"),
    re_path(r"^.*$", nothing_here),
]
