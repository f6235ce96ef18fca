"""Who may do what: every route has a rule, and the rule is what is enforced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver

from apps.accounts import services
from apps.accounts.models import RANK, User, Workspace
from apps.clusters.models import Host
from apps.core.api.views import SIGNED_IN
from controlplane import api_urls
from tests.api.conftest import Caller
from tests.api.rows import dataset_version, export, training_run

OPEN = {"api-schema", "api-docs", None}


def routes() -> Iterator[tuple[str | None, Any, dict[str, str]]]:
    def walk(patterns: Any) -> Iterator[URLPattern]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns)
            else:
                yield pattern

    for pattern in walk(api_urls.urlpatterns):
        yield pattern.name, getattr(pattern.callback, "cls", None), getattr(pattern.callback, "actions", {}) or {}


def test_every_route_has_a_rule_for_each_of_its_actions() -> None:
    checked = 0
    for name, view, actions in routes():
        if name in OPEN:
            continue
        for action in actions.values():
            assert view.rules.get(action) in {*RANK, SIGNED_IN}, f"{view.__name__}.{action} has no rule"
            checked += 1
    assert checked > 60


def test_no_rule_is_for_an_action_that_is_not_there() -> None:
    there: dict[Any, set[str]] = {}
    for _name, view, actions in routes():
        if view is not None and hasattr(view, "rules"):
            there.setdefault(view, set()).update(actions.values())
    for view, actions in there.items():
        assert set(view.rules) <= actions, f"{view.__name__} has rules for nothing: {set(view.rules) - actions}"


@pytest.mark.django_db
def test_without_a_rule_nothing_is_done(developer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.registry.api import DatasetView

    monkeypatch.setattr(DatasetView, "rules", {})
    developer.client.raise_request_exception = False
    assert developer.post("datasets", {"name": "flowers"}).status_code == 500


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "body", "needed"),
    [
        ("GET", "datasets", None, "viewer"),
        ("GET", "events", None, "viewer"),
        ("GET", "hosts", None, "viewer"),
        ("GET", "members", None, "viewer"),
        ("POST", "datasets", {"name": "flowers"}, "developer"),
        ("POST", "training-runs", {}, "developer"),
        ("GET", "secrets", None, "developer"),
        ("POST", "secrets", {"name": "token", "value": "x"}, "admin"),
        ("GET", "api-keys", None, "admin"),
        ("POST", "api-keys", {"name": "another"}, "admin"),
        ("POST", "members", {"email": "x@example.org", "role": "viewer"}, "admin"),
        ("GET", "audit", None, "admin"),
        ("GET", "places", None, "viewer"),
        ("GET", "offers", None, "viewer"),
        ("GET", "clusters", None, "viewer"),
        ("POST", "clusters", {}, "admin"),
        ("GET", "cloud-accounts", None, "admin"),
        ("POST", "cloud-accounts", {}, "admin"),
    ],
)
def test_a_lower_role_is_refused(
    as_role: Callable[..., Caller], method: str, path: str, body: Any, needed: str
) -> None:
    for role, rank in RANK.items():
        answer = as_role(role)(method, path, body)
        if rank < RANK[needed]:
            assert (answer.status_code, answer.json()["code"]) == (403, "Forbidden"), role
            assert needed in answer.json()["detail"]
        else:
            assert answer.status_code not in {401, 403, 404}, role


@pytest.mark.django_db
def test_a_workspace_does_not_exist_for_those_outside(as_role: Callable[..., Caller], other: Workspace) -> None:
    caller = as_role("admin")
    answer = caller.get("/api/v1/workspaces/other/datasets")
    unknown = caller.get("/api/v1/workspaces/nobody/datasets")
    assert (answer.status_code, unknown.status_code) == (404, 404)
    assert answer.json()["detail"].replace("other", "nobody") == unknown.json()["detail"]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["run", "dataset_version", "export"])
def test_rows_of_another_workspace_do_not_exist(admin: Caller, other: Workspace, kind: str) -> None:
    row: Any = {"run": training_run, "dataset_version": dataset_version, "export": export}[kind](other)
    path = {"run": "training-runs", "dataset_version": "dataset-versions", "export": "exports"}[kind]
    for method, tail, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/cancel", None),
        ("GET", "/logs", None),
    ):
        answer = admin(method, f"{path}/{row.typed_id}{tail}", body)
        assert (answer.status_code, answer.json()["code"]) == (404, "NotFound"), (method, tail)
    row.refresh_from_db()
    assert row.goal == "run"
    assert admin.get(path).json()["items"] == []


@pytest.mark.django_db
def test_ids_of_another_workspace_in_a_body_or_filter_are_refused(admin: Caller, other: Workspace) -> None:
    version, made = dataset_version(other), export(other)
    body = {"model": "m", "recipe": "image_classifier", "dataset_version": version.typed_id}
    for answer, field in (
        (admin.post("training-runs", body), "dataset_version"),
        (admin.post("exports", {"model_version": made.model_version.typed_id}), "model_version"),
        (admin.post("deployments", {"name": "d", "export": made.typed_id}), "export"),
        (admin.get(f"training-runs?dataset_version={version.typed_id}"), "dataset_version"),
        (admin.get(f"deployments?export={made.typed_id}"), "export"),
    ):
        assert answer.status_code == 422, answer.json()
        assert [error["field"] for error in answer.json()["errors"]] == [field]
        assert "in this workspace" in answer.json()["detail"]


@pytest.mark.django_db
def test_a_session_needs_the_csrf_token(workspace: Workspace) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(), backend="django.contrib.auth.backends.ModelBackend")
    path = "/api/v1/workspaces/team/datasets"
    assert client.get(path).status_code == 200
    refused = client.post(path, {"name": "flowers"}, content_type="application/json")
    assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/problem+json")
    client.get("/accounts/login/")
    from django.middleware.csrf import _get_new_csrf_string

    token = _get_new_csrf_string()
    from django.conf import settings

    client.cookies[settings.CSRF_COOKIE_NAME] = token
    taken = client.post(path, {"name": "flowers"}, content_type="application/json", headers={"X-CSRFToken": token})
    assert taken.status_code == 201


@pytest.mark.django_db
def test_a_host_serves_all_workspaces_so_only_staff_drain_it(admin: Caller, workspace: Workspace) -> None:
    host = Host.objects.create(name="h", cpus=2, memory_bytes=2**30)
    path, drained = f"hosts/{host.typed_id}", {"draining": True}
    refused = admin.patch(path, drained)
    assert refused.status_code == 403 and "all workspaces" in refused.json()["detail"]
    user = workspace.members.get()
    key = services.create_api_key(workspace, user.actor, name="theirs", role="admin")
    assert Caller(workspace, key.secret).patch(path, drained).status_code == 403
    User.objects.update(is_staff=True)
    assert Caller(workspace, key.secret).patch(path, drained).status_code == 200
    host.refresh_from_db()
    assert host.draining
    assert admin.patch(path, drained).status_code == 403
