"""Addresses of deployments."""

from django.urls import path

from apps.deployments import views
from apps.deployments.playground_views import Predict

ACTS = ("stop", "start", "roll-back", "delete")

urlpatterns = [
    path("", views.Deployments.as_view(), name="deployments"),
    path("<str:deployment_id>/", views.DeploymentPage.as_view(), name="deployment"),
    path("<str:deployment_id>/log", views.DeploymentLog.as_view()),
    path("<str:deployment_id>/chart/<str:name>", views.DeploymentChart.as_view()),
    path("<str:deployment_id>/playground/predict", Predict.as_view()),
    *(path(f"<str:deployment_id>/{name}", views.DeploymentAct.as_view(act_name=name)) for name in ACTS),
    path("<str:deployment_id>/<slug:tab>/", views.DeploymentPage.as_view()),
]
