"""Addresses of exports."""

from django.urls import path

from apps.exports import views

urlpatterns = [
    path("", views.Exports.as_view(), name="exports"),
    path("<str:export_id>/", views.ExportPage.as_view(), name="export"),
    path("<str:export_id>/log", views.ExportLog.as_view()),
    path("<str:export_id>/file", views.ExportFile.as_view()),
    path("<str:export_id>/cancel", views.CancelExport.as_view()),
    path("<str:export_id>/delete", views.DeleteExport.as_view()),
    path("<str:export_id>/<slug:tab>/", views.ExportPage.as_view()),
]
