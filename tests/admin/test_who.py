"""Only staff get in, by the same sign-in as everywhere; and staff are no superusers."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import ApiKey, AuditEntry, Membership, User, Workspace
from apps.core.models import Event
from tests.admin.conftest import PASSWORD, client_of
from tests.admin.pages import do, list_of, page_of, words

TOKEN_FIELDS = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}


def test_who_is_not_signed_in_goes_to_the_ordinary_page(db: None) -> None:
    response = Client().get("/admin/", follow=True)
    assert response.redirect_chain[-1][0].startswith("/accounts/login/?next=")
    posted = Client().post("/admin/login/", {"username": "root@example.org", "password": PASSWORD})
    assert posted.status_code == 302 and posted.headers["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("active", [True, False])
def test_who_is_not_staff_gets_nothing(everything: dict[Any, Any], active: bool) -> None:
    user = User.objects.create_user("member@example.org", PASSWORD)
    client = client_of(user)
    User.objects.filter(pk=user.pk).update(is_active=active, is_staff=not active)
    addresses = ["/admin/", *(list_of(type(row)) for row in everything.values())]
    addresses += [page_of(row) for row in everything.values()]
    for address in addresses:
        response = client.get(address, follow=True)
        assert "nav-sidebar" not in response.content.decode(), address
    assert client.get("/admin/", follow=True).status_code == (403 if active else 200)


def test_staff_see_everything_and_change_little(staff: Client, everything: dict[Any, Any]) -> None:
    for row in everything.values():
        assert staff.get(page_of(row)).status_code == 200
        if not isinstance(row, User):
            assert staff.post(page_of(row), {}).status_code == 403, row


def user_form(user: User, **changes: str) -> dict[str, str]:
    form = {"email": user.email, "first_name": "", "last_name": "", **TOKEN_FIELDS}
    form |= {name: "on" for name in ("is_active", "is_staff", "is_superuser") if getattr(user, name)}
    return {name: value for name, value in {**form, **changes}.items() if value != "off"}


def test_staff_disable_people_and_make_them_staff(staff: Client, staff_user: User, workspace: Workspace) -> None:
    user = User.objects.create_user("member@example.org", PASSWORD)
    signed_in = client_of(user)
    form = user_form(user, is_active="off", is_staff="on", is_superuser="on", email="other@example.org")
    assert staff.post(page_of(user), form).status_code == 302
    user.refresh_from_db()
    assert (user.is_active, user.is_staff, user.is_superuser, user.email) == (False, True, False, "member@example.org")
    entry = AuditEntry.objects.get(action="user.change", target=user.typed_id)
    assert entry.actor == staff_user.actor.id and "active" in entry.detail["change"].lower()
    assert signed_in.get("/admin/").status_code == 302


def test_staff_do_not_touch_superusers(staff: Client, superuser: User) -> None:
    before = superuser.password
    assert staff.post(page_of(superuser), user_form(superuser, is_active="off")).status_code == 403
    new = {"password1": "another passphrase 1", "password2": "another passphrase 1", "usable_password": "true"}
    assert staff.post(page_of(superuser).removesuffix("change/") + "password/", new).status_code == 403
    superuser.refresh_from_db()
    assert superuser.is_active and superuser.password == before


def test_nobody_locks_themselves_out(root: Client, superuser: User) -> None:
    form = user_form(superuser, is_active="off", is_staff="off", is_superuser="off", first_name="Ada")
    root.post(page_of(superuser), form)
    superuser.refresh_from_db()
    assert (superuser.is_active, superuser.is_superuser, superuser.first_name) == (True, True, "Ada")


def test_a_new_password_is_audited_and_ends_sessions(staff: Client, staff_user: User) -> None:
    user = User.objects.create_user("member@example.org", PASSWORD, is_staff=True)
    signed_in = client_of(user)
    new = {"password1": "another passphrase 1", "password2": "another passphrase 1", "usable_password": "true"}
    link = staff.get(page_of(user).removesuffix("change/") + "new-password/").headers["Location"]
    assert staff.post(link, new).status_code == 302
    user.refresh_from_db()
    assert user.check_password("another passphrase 1")
    assert signed_in.get("/admin/").status_code == 302
    entry = AuditEntry.objects.get(action="user.change", target=user.typed_id, actor=staff_user.actor.id)
    assert "another passphrase" not in str(entry.detail)


def test_a_superuser_makes_users(root: Client, staff: Client) -> None:
    new = {"email": "Ada@Example.org", "password1": "another passphrase 1", "password2": "another passphrase 1"}
    new["usable_password"] = "true"
    assert staff.post(list_of(User) + "add/", new).status_code == 403
    assert root.post(list_of(User) + "add/", new).status_code == 302
    made = User.objects.get(email="ada@example.org")
    assert made.check_password("another passphrase 1") and not made.is_staff
    assert AuditEntry.objects.filter(action="user.add", target=made.typed_id).exists()


def test_a_superuser_makes_and_renames_workspaces(root: Client, superuser: User) -> None:
    bad = root.post(list_of(Workspace) + "add/", {"name": "Two", "slug": "Two_"})
    assert bad.status_code == 200 and "is no name" in bad.content.decode()
    assert root.post(list_of(Workspace) + "add/", {"name": "Two", "slug": "two"}).status_code == 302
    made = Workspace.objects.get(slug="two")
    assert Membership.objects.get(workspace=made).user == superuser
    assert root.post(page_of(made), {"name": "Second", "slug": "changed", **TOKEN_FIELDS}).status_code == 302
    made.refresh_from_db()
    assert (made.name, made.slug) == ("Second", "two")
    assert AuditEntry.objects.filter(action="workspace.create", workspace=made).count() == 1
    assert AuditEntry.objects.filter(action="workspace.change", target=made.typed_id).count() == 1


def test_a_workspace_keeps_an_admin(root: Client, staff: Client, workspace: Workspace) -> None:
    only = Membership.objects.get(workspace=workspace)
    refused = root.post(page_of(only), {"role": "viewer"})
    assert "only admin" in refused.content.decode()
    assert "only admin" in words(do(root, only, "remove"))
    user = User.objects.create_user("member@example.org", PASSWORD)
    form = {"user": str(user.pk), "workspace": str(workspace.pk), "role": "admin"}
    assert root.post(list_of(Membership) + "add/", form).status_code == 302
    assert root.post(page_of(only), {"role": "viewer"}).status_code == 302
    only.refresh_from_db()
    assert only.role == "viewer"
    assert do(staff, only, "remove").status_code == 403
    do(root, only, "remove")
    assert [item.user for item in Membership.objects.filter(workspace=workspace)] == [user]
    actions = AuditEntry.objects.filter(workspace=workspace).values_list("action", flat=True)
    assert sorted(actions) == ["member.add", "member.remove", "member.role"]


def test_a_key_is_revoked(staff: Client, staff_user: User, everything: dict[Any, Any]) -> None:
    key = everything[ApiKey]
    do(staff, key, "revoke")
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert AuditEntry.objects.filter(action="key.revoke", target=key.typed_id, actor=staff_user.actor.id).exists()


@pytest.mark.parametrize("model", [Event, AuditEntry])
def test_the_trails_are_read_only_for_superusers_too(root: Client, everything: dict[Any, Any], model: Any) -> None:
    row, before = everything[model], model.objects.values().get(pk=everything[model].pk)
    page = page_of(row)
    for address in (page, page.removesuffix("change/") + "delete/", list_of(model) + "add/"):
        assert root.post(address, {"post": "yes", "message": "changed", "action": "changed"}).status_code == 403
    root.post(list_of(model), {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"})
    assert model.objects.values().get(pk=row.pk) == before
    assert 'name="_save"' not in root.get(page).content.decode()
