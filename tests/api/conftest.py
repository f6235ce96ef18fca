"""A workspace, whose members and keys ask the API as clients do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from apps.accounts import services
from apps.accounts.models import Role, User, Workspace
from apps.core.actor import WINDLASS


class Caller:
    """Asks below one workspace with one key."""

    def __init__(self, workspace: Workspace, key: str) -> None:
        self.base = f"/api/v1/workspaces/{workspace.slug}/"
        self.key = key
        self.client = Client()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        url = path if path.startswith(("/", "http")) else self.base + path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        media_type = named.pop("Content-Type", "application/json")
        headers = {"Authorization": f"Bearer {self.key}", **named}
        return self.client.generic(method, url, data, content_type=media_type, headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        return self("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self("DELETE", path, **headers)


def make_workspace(slug: str) -> Workspace:
    user = User.objects.create_user(f"admin@{slug}.example.org")
    return services.create_workspace(WINDLASS, slug=slug, name=slug.title(), admin=user)


@pytest.fixture(autouse=True)
def no_hints(settings: Any) -> None:
    settings.WINDLASS_HINTS = False


@pytest.fixture(autouse=True)
def own_storage(settings: Any, tmp_path: Any) -> None:
    options = {**settings.STORAGES["default"]["OPTIONS"], "location": str(tmp_path / "storage")}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}


@pytest.fixture
def workspace(db: None) -> Workspace:
    return make_workspace("team")


@pytest.fixture
def other(db: None) -> Workspace:
    return make_workspace("other")


@pytest.fixture
def as_role(workspace: Workspace) -> Callable[..., Caller]:
    def caller(role: str = "", of: Workspace | None = None) -> Caller:
        place = of or workspace
        return Caller(place, services.create_api_key(place, WINDLASS, name=role or "predict", role=role).secret)

    return caller


@pytest.fixture
def admin(as_role: Callable[..., Caller]) -> Caller:
    return as_role(Role.ADMIN)


@pytest.fixture
def developer(as_role: Callable[..., Caller]) -> Caller:
    return as_role(Role.DEVELOPER)


@pytest.fixture
def viewer(as_role: Callable[..., Caller]) -> Caller:
    return as_role(Role.VIEWER)
