"""Who sees what, and who may do what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.accounts.models import Role, Workspace
from apps.training.models import TrainingRun
from tests.pages.addresses import OF_NOTHING, ROOT, of_data, of_rows
from tests.pages.conftest import make_workspace

pytestmark = pytest.mark.django_db


def test_who_is_not_signed_in_is_sent_to_sign_in(client: Client, workspace: Workspace) -> None:
    answer = client.get(f"{ROOT}training/?phase=failed")
    assert answer.status_code == 302
    assert answer["Location"] == "/accounts/login/?next=/w/team/training/%3Fphase%3Dfailed"
    assert client.get("/")["Location"].startswith("/accounts/login/")


def test_another_workspace_does_not_exist(browser: Callable[..., Client], busy: SimpleNamespace) -> None:
    stranger = browser(Role.ADMIN, make_workspace("other"))
    for path in (*OF_NOTHING, *of_rows(busy), *of_data(busy), "stream"):
        assert stranger.get(ROOT + path).status_code == 404, path
    for path in (*of_rows(busy), *of_data(busy)):
        if path.startswith(("events/", "training/new", "datasets/new")):
            continue  # those take the id as a question, and answer that nothing is found
        assert stranger.get(f"/w/other/{path}").status_code == 404, path


def writing_views() -> Iterator[tuple[str, Any]]:
    def walk(patterns: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif isinstance(pattern, URLPattern) and path.startswith("w/<slug:workspace>/"):
                view = getattr(pattern.callback, "view_class", None)
                if view is not None and hasattr(view, "post"):
                    yield path, view

    yield from walk(get_resolver().url_patterns, "")


def test_a_viewer_is_refused_at_every_form_and_told_who_can_help(viewer: Client, workspace: Workspace) -> None:
    paths = [path for path, _view in writing_views()]
    assert len(paths) > 20
    for path in paths:
        filled = path.replace("<slug:workspace>", "team").replace("<slug:tab>", "logs")
        filled = filled.replace("<str:", "run_0").replace(">", "")
        answer = viewer.post(f"/{filled}")
        assert answer.status_code == 403, path
        text = answer.content.decode()
        assert "yours in “Team” is viewer" in text and "Admin of team" in text, path


def test_settings_need_an_admin(developer: Client, workspace: Workspace) -> None:
    assert developer.post(f"{ROOT}settings/keys/", {"name": "k"}).status_code == 403
    assert developer.get(f"{ROOT}settings/audit/").status_code == 403
    assert "changing this needs admin" in developer.get(f"{ROOT}settings/keys/").content.decode()


def test_a_viewer_may_not_open_a_form(viewer: Client, workspace: Workspace) -> None:
    assert viewer.get(f"{ROOT}training/new/").status_code == 403


def test_the_way_in_leads_to_the_last_workspace(browser: Callable[..., Client], workspace: Workspace) -> None:
    from apps.accounts.models import Membership, User

    client = browser(Role.VIEWER)
    other = make_workspace("another")
    user = User.objects.get(pk=client.session["_auth_user_id"])
    Membership.objects.create(user=user, workspace=other, role=Role.VIEWER)
    assert client.get("/")["Location"] == "/w/another/"
    client.get("/w/team/")
    assert client.get("/")["Location"] == "/w/team/"
    text = client.get("/w/team/training/").content.decode()
    assert 'href="/w/another/training/"' in text  # switching keeps the section


def test_a_user_without_a_workspace_is_told_so(client: Client, db: None) -> None:
    from apps.accounts.models import User

    client.force_login(User.objects.create_user("new@example.org"), backend="django.contrib.auth.backends.ModelBackend")
    answer = client.get("/")
    assert answer.status_code == 403 and "no workspace has you as a member" in answer.content.decode()


def test_get_changes_nothing(admin: Client, busy: SimpleNamespace) -> None:
    assert admin.get(f"{ROOT}training/{busy.running.typed_id}/cancel").status_code == 405
    assert TrainingRun.objects.get(pk=busy.running.pk).goal == "run"


def test_a_form_from_elsewhere_is_refused(workspace: Workspace, browser: Callable[..., Client]) -> None:
    client = browser(Role.ADMIN)
    client.handler.enforce_csrf_checks = True
    assert client.post(f"{ROOT}example").status_code == 403
