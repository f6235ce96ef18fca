"""A workspace with its first admin."""

from __future__ import annotations

from typing import Any

import pytest

from apps.accounts import services
from apps.accounts.models import User, Workspace
from apps.core.actor import WINDLASS


@pytest.fixture(autouse=True)
def no_hints(settings: Any) -> None:
    settings.WINDLASS_HINTS = False


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("ada@example.org")


@pytest.fixture
def workspace(user: User) -> Workspace:
    return services.create_workspace(WINDLASS, slug="team", name="Team", admin=user)
