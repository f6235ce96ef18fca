"""What a page says when there is nothing, when we made a mistake, and when the database is away."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from apps.accounts.models import Workspace
from apps.core.pages.errors import database_away
from tests.pages.addresses import ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture
def calm(admin: Client) -> Client:
    """Gets the page of an error instead of the error."""
    admin.raise_request_exception = False
    return admin


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_nothing_here_keeps_the_frame(admin: Client, workspace: Workspace) -> None:
    for path in ("training/run_01k00000000000000000000000/", "models/what/", "training/new/?clone=x", "exports/exp_1/"):
        answer = admin.get(ROOT + path)
        text = answer.content.decode()
        assert answer.status_code == 404 and "There is nothing here" in text and 'aria-label="Main"' in text, path
    bare = admin.get("/nowhere")
    assert bare.status_code == 404 and "There is nothing here" in bare.content.decode()


def test_a_mistake_of_ours_has_a_reference(calm: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.core.overview.counts", failing(RuntimeError("secret detail")))
    answer = calm.get(ROOT, headers={"X-Request-Id": "reference-1234"})
    text = answer.content.decode()
    assert answer.status_code == 500 and "Windlass made a mistake" in text
    assert "reference-1234" in text and "secret detail" not in text


def test_a_database_that_is_away_is_told_apart(calm: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.core.overview.counts", failing(OperationalError("connection refused")))
    answer = calm.get(ROOT)
    text = answer.content.decode()
    assert answer.status_code == 503 and "The database does not answer" in text
    assert 'http-equiv="refresh"' in text and answer["Retry-After"] == "5" and "connection refused" not in text


def test_also_when_it_goes_away_before_the_page_begins(calm: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = "django.contrib.sessions.backends.db.SessionStore.load"
    monkeypatch.setattr(backend, failing(OperationalError("the connection is closed")))
    assert calm.get(ROOT).status_code == 503


def test_what_counts_as_away() -> None:
    wrapped = ValueError("x")
    wrapped.__cause__ = OperationalError("gone")
    assert database_away(wrapped) and not database_away(ValueError("x")) and not database_away(None)


def test_the_first_password_is_named_until_somebody_signed_in(client: Client, workspace: Workspace) -> None:
    from apps.accounts.models import User

    assert "var/credentials.json" in client.get("/accounts/login/").content.decode()
    client.force_login(User.objects.get(), backend="django.contrib.auth.backends.ModelBackend")
    client.logout()
    assert "var/credentials.json" not in client.get("/accounts/login/").content.decode()
