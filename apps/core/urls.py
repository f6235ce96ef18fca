"""Addresses of the way in and of what belongs to the whole workspace."""

from django.urls import path

from apps.core import views

urlpatterns = [
    path("", views.home, name="home"),
    path("favicon.ico", views.favicon),
    path("w/<slug:workspace>/", views.Overview.as_view(), name="overview"),
    path("w/<slug:workspace>/example", views.RunExample.as_view(), name="run-example"),
    path("w/<slug:workspace>/stream", views.stream, name="stream"),
    path("w/<slug:workspace>/navigation", views.Navigation.as_view(), name="navigation"),
    path("w/<slug:workspace>/events/", views.Events.as_view(), name="events"),
    path("w/<slug:workspace>/health/", views.Health.as_view(), name="health"),
]
