"""The first start makes an administrator, a key and the example once; later starts change nothing."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from apps.accounts.auth import digest
from apps.accounts.models import ApiKey, User, Workspace
from apps.accounts.services import link_user
from apps.registry.models import DatasetVersion


@pytest.fixture(autouse=True)
def fresh(settings: Any, tmp_path: Path) -> None:
    settings.WINDLASS_HINTS = False
    settings.WINDLASS_VAR = tmp_path
    options = {**settings.STORAGES["default"]["OPTIONS"], "location": str(tmp_path / "storage")}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}


def start() -> str:
    out = io.StringIO()
    call_command("first_start", stdout=out)
    return out.getvalue()


@pytest.mark.django_db
def test_it_makes_all_that_a_newcomer_needs(tmp_path: Path) -> None:
    printed = start()
    path = tmp_path / "credentials.json"
    credentials = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    user = User.objects.get(email=credentials["email"])
    assert user.is_superuser and user.check_password(credentials["password"])
    key = ApiKey.objects.get(sha256=digest(credentials["api_key"]))
    assert (key.role, key.may_predict, key.workspace.slug) == ("admin", True, "default")
    assert link_user(credentials["sign_in_link"].rsplit("/", 1)[1]) == user
    version = DatasetVersion.objects.get()
    assert (version.name, version.phase, version.upload.state) == ("digits v1", "queued", "ready")
    assert credentials["password"] in printed and credentials["sign_in_link"] in printed


@pytest.mark.django_db
def test_a_second_start_prints_nothing_and_changes_nothing(tmp_path: Path) -> None:
    start()
    before = (tmp_path / "credentials.json").read_text()
    assert start() == ""
    assert (tmp_path / "credentials.json").read_text() == before
    assert (User.objects.count(), Workspace.objects.count(), ApiKey.objects.count()) == (1, 1, 1)
    assert DatasetVersion.objects.count() == 1
