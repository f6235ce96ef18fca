"""A sign-in link signs in once, by its button; looking at it uses nothing up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import AuditEntry, SignInLink, User
from apps.accounts.services import make_link

pytestmark = pytest.mark.django_db


def signed_in(client: Client) -> bool:
    return client.get("/api/v1/me").status_code == 200


def test_the_button_signs_in_and_only_once(user: User) -> None:
    path = f"/accounts/link/{make_link(user)}"
    client = Client()
    for _ in range(2):  # mail programs look at links first
        page = client.get(path)
        assert page.status_code == 200 and user.email in page.content.decode()
    assert not signed_in(client)
    assert client.post(path).headers["Location"] == "/"
    assert signed_in(client)
    assert client.get("/api/v1/me").json()["email"] == user.email
    stranger = Client()
    assert stranger.post(path).status_code == 410 and not signed_in(stranger)
    assert stranger.get(path).status_code == 410
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")][-2:] == ["link.use", "session.sign_in"]


def test_it_ends_after_a_day(user: User) -> None:
    path = f"/accounts/link/{make_link(user)}"
    SignInLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert Client().post(path).status_code == 410


def test_a_user_who_was_disabled_can_not_use_it(user: User) -> None:
    path = f"/accounts/link/{make_link(user)}"
    User.objects.update(is_active=False)
    assert Client().post(path).status_code == 410


def test_an_unknown_link(user: User) -> None:
    answer = Client().post("/accounts/link/nonsense")
    assert answer.status_code == 410 and "Ask an admin" in answer.content.decode()


def test_the_button_needs_the_csrf_token(user: User) -> None:
    path = f"/accounts/link/{make_link(user)}"
    assert Client(enforce_csrf_checks=True).post(path).status_code == 403
    assert SignInLink.objects.get().used_at is None


def test_only_its_hash_is_stored(user: User) -> None:
    token = make_link(user)
    assert token not in str(SignInLink.objects.values_list().get())
