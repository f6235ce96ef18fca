"""Addresses of training."""

from django.urls import path

from apps.training import views

urlpatterns = [
    path("", views.Runs.as_view(), name="training"),
    path("new/", views.NewRun.as_view(), name="training-new"),
    path("<str:run_id>/", views.RunPage.as_view(), name="training-run"),
    path("<str:run_id>/log", views.RunLog.as_view()),
    path("<str:run_id>/chart/<str:name>", views.RunChart.as_view()),
    path("<str:run_id>/cancel", views.CancelRun.as_view()),
    path("<str:run_id>/delete", views.DeleteRun.as_view()),
    path("<str:run_id>/<slug:tab>/", views.RunPage.as_view()),
]
