"""API keys: shown once, stored as a hash, ended by time or by hand; and what they have used."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts import services
from apps.accounts.auth import digest
from apps.accounts.models import ApiKey, AuditEntry, User, Workspace
from apps.core.actor import WINDLASS
from apps.core.errors import Invalid
from apps.placements.models import Place

pytestmark = pytest.mark.django_db


def ask(secret: str) -> Any:
    return Client().get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"})


def test_a_key_is_opaque_and_stored_as_its_hash(workspace: Workspace) -> None:
    new = services.create_api_key(workspace, WINDLASS, name="ci", role="viewer")
    assert new.secret.startswith("wl_") and len(new.secret) >= 46
    assert new.key.sha256 == digest(new.secret)
    assert new.secret not in str(ApiKey.objects.values_list().get())
    assert ask(new.secret).json()["workspaces"] == [{"slug": "team", "name": "Team", "role": "viewer"}]


def test_a_revoked_key_is_refused_at_once_and_places_publish(workspace: Workspace) -> None:
    place = Place.objects.create()
    new = services.create_api_key(workspace, WINDLASS, name="ci", role="viewer")
    Place.objects.update(due_at=timezone.now() + timedelta(hours=1), wakes=0)
    services.revoke_api_key(new.key, WINDLASS)
    answer = ask(new.secret)
    assert answer.status_code == 401 and "revoked" in answer.json()["detail"]
    place.refresh_from_db()
    assert place.wakes == 1 and place.due_at <= timezone.now()
    services.revoke_api_key(new.key, WINDLASS)
    assert AuditEntry.objects.filter(action="key.revoke").count() == 1


def test_a_key_ends_at_its_time(workspace: Workspace) -> None:
    new = services.create_api_key(
        workspace, WINDLASS, name="ci", role="viewer", expires_at=timezone.now() + timedelta(hours=1)
    )
    assert ask(new.secret).status_code == 200
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(days=1))
    answer = ask(new.secret)
    assert answer.status_code == 401 and "ended on" in answer.json()["detail"]
    assert services.expire_keys() == 1
    assert services.expire_keys() == 0
    new.key.refresh_from_db()
    assert new.key.revoked_at is not None
    assert AuditEntry.objects.get(action="key.expire").actor == "schedule"


def test_its_last_use_is_written_at_most_once_a_minute(workspace: Workspace) -> None:
    new = services.create_api_key(workspace, WINDLASS, name="ci", role="viewer")
    assert ApiKey.objects.get().last_used_at is None
    ask(new.secret)
    first = ApiKey.objects.get().last_used_at
    ask(new.secret)
    assert ApiKey.objects.get().last_used_at == first
    ApiKey.objects.update(last_used_at=timezone.now() - timedelta(seconds=61))
    ask(new.secret)
    assert ApiKey.objects.get().last_used_at > timezone.now() - timedelta(seconds=30)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": " "}, "name"),
        ({"role": "owner"}, "role"),
        ({"may_predict": False}, "role"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expires_at"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"deployments": ["dep_00000000000000000000000000"]}, "deployments"),
    ],
)
def test_a_key_that_can_not_be(workspace: Workspace, given: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        services.create_api_key(workspace, WINDLASS, **{"name": "ci", **given})
    assert [error.field for error in caught.value.errors] == [field]
    assert not ApiKey.objects.exists()


def test_who_is_disabled_loses_sessions_and_keys_at_once(workspace: Workspace, user: User) -> None:
    Place.objects.create()
    browser = Client()
    browser.force_login(user)
    own = services.create_api_key(workspace, user.actor, name="own", role="admin")
    child = services.create_api_key(workspace, own.key.actor, name="made by that key", role="viewer")
    others = services.create_api_key(workspace, WINDLASS, name="others", role="viewer")
    assert browser.get("/api/v1/me").status_code == 200
    Place.objects.update(wakes=0)
    user.is_active = False
    user.save()
    assert browser.get("/api/v1/me").status_code in {401, 403}
    assert browser.get("/w/team/").status_code == 302
    assert [ask(new.secret).status_code for new in (own, child, others)] == [401, 401, 200]
    assert Place.objects.get().wakes, "replicas hear of it now, not at the next beat"
    assert AuditEntry.objects.filter(action="key.revoke").count() == 2
