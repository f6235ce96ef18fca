"""Members: who comes in, who may do what, and that somebody stays who can."""

from __future__ import annotations

import pytest
from django.test import Client

from apps.accounts import services
from apps.accounts.models import AuditEntry, Membership, User, Workspace
from apps.core.actor import WINDLASS
from apps.core.errors import Conflict, Invalid

pytestmark = pytest.mark.django_db


def test_who_is_new_gets_an_account_and_a_link(workspace: Workspace) -> None:
    new = services.add_member(workspace, WINDLASS, email="Grace@Example.org", role="developer")
    user = User.objects.get(email="grace@example.org")
    assert not user.has_usable_password()
    client = Client()
    client.post(f"/accounts/link/{new.link_token}")
    assert client.get("/api/v1/workspaces/team/datasets").status_code == 200
    assert AuditEntry.objects.get(action="member.add").detail == {"email": "grace@example.org", "role": "developer"}


def test_who_has_an_account_gets_no_link(workspace: Workspace) -> None:
    User.objects.create_user("grace@example.org")
    assert services.add_member(workspace, WINDLASS, email="grace@example.org", role="viewer").link_token == ""
    with pytest.raises(Conflict):
        services.add_member(workspace, WINDLASS, email="grace@example.org", role="viewer")


def test_an_address_that_is_none(workspace: Workspace) -> None:
    with pytest.raises(Invalid) as caught:
        services.add_member(workspace, WINDLASS, email="grace", role="boss")
    assert {error.field for error in caught.value.errors} == {"email", "role"}


def test_the_last_admin_stays(workspace: Workspace, user: User) -> None:
    only = Membership.objects.get(user=user)
    for act in (lambda: services.remove_member(only, WINDLASS), lambda: services.set_role(only, WINDLASS, "viewer")):
        with pytest.raises(Conflict, match="only admin"):
            act()
    other = services.add_member(workspace, WINDLASS, email="grace@example.org", role="viewer").membership
    services.set_role(other, WINDLASS, "admin")
    services.remove_member(only, WINDLASS)
    assert [member.user.email for member in workspace.memberships.all()] == ["grace@example.org"]


def test_who_was_removed_sees_nothing_at_once(workspace: Workspace) -> None:
    new = services.add_member(workspace, WINDLASS, email="grace@example.org", role="admin")
    client = Client()
    client.post(f"/accounts/link/{new.link_token}")
    services.remove_member(new.membership, WINDLASS)
    assert client.get("/api/v1/workspaces/team/datasets").status_code == 404


def test_a_disabled_users_session_ends(workspace: Workspace, user: User) -> None:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    User.objects.update(is_active=False)
    assert client.get("/api/v1/me").status_code == 401


def test_nobody_signs_up_by_themselves(db: None) -> None:
    body = {"email": "eve@example.org", "password1": "a good long password", "password2": "a good long password"}
    Client().post("/accounts/signup/", body)
    assert not User.objects.exists()


def test_who_set_no_password_gets_a_new_link_and_nobody_else(workspace: Workspace, user: User) -> None:
    member = services.add_member(workspace, WINDLASS, email="grace@example.org", role="viewer").membership
    client = Client()
    assert client.post(f"/accounts/link/{services.new_link(member, WINDLASS)}").status_code == 302
    assert client.get("/api/v1/me").json()["email"] == "grace@example.org"
    services.create_workspace(WINDLASS, slug="other", name="Other", admin=member.user)
    with pytest.raises(Conflict, match="elsewhere"):
        services.new_link(member, WINDLASS)
    user.set_password("a long enough one")
    user.save()
    with pytest.raises(Conflict, match="has a password"):
        services.new_link(Membership.objects.get(user=user), WINDLASS)
