"""Addresses of hosts."""

from django.urls import path

from apps.clusters import views

urlpatterns = [
    path("", views.Hosts.as_view(), name="hosts"),
    path("<str:host_id>/drain", views.DrainHost.as_view()),
]
