"""Addresses of the settings."""

from django.urls import path

from apps.accounts import views

urlpatterns = [
    path("", views.Settings.as_view(), name="settings"),
    path("keys/", views.Keys.as_view(), name="settings-keys"),
    path("keys/<str:key_id>/revoke", views.RevokeKey.as_view()),
    path("members/", views.Members.as_view(), name="settings-members"),
    path("members/<str:user_id>/role", views.ChangeMember.as_view(act_name="role")),
    path("members/<str:user_id>/remove", views.ChangeMember.as_view(act_name="remove")),
    path("members/<str:user_id>/link", views.NewLink.as_view()),
    path("secrets/", views.Secrets.as_view(), name="settings-secrets"),
    path("secrets/<str:secret_id>/delete", views.DeleteSecret.as_view()),
    path("audit/", views.Audit.as_view(), name="settings-audit"),
]
