"""Addresses of placements."""

from django.urls import path

from apps.placements import views

urlpatterns = [
    path("", views.Placements.as_view(), name="placements"),
    path("<str:placement_id>/", views.PlacementPage.as_view(), name="placement"),
    path("<str:placement_id>/log", views.PlacementLog.as_view()),
    path("<str:placement_id>/<slug:tab>/", views.PlacementPage.as_view()),
]
