"""Hosts serve all workspaces: only staff invite them, and give up those that are lost for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts import services
from apps.accounts.models import AuditEntry, User, Workspace
from apps.clusters.models import Host, HostInvitation
from apps.placements.models import Place, Placement
from tests.api.clouds import host, placed
from tests.api.conftest import Caller
from tests.api.rows import ended

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(workspace: Workspace) -> Caller:
    User.objects.filter(pk=workspace.members.get().pk).update(is_staff=True)
    key = services.create_api_key(workspace, workspace.members.get().actor, name="staff", role="admin")
    return Caller(workspace, key.secret)


def lost(place: Place) -> Host:
    Host.objects.filter(pk=place.host_id).update(lost_at=timezone.now())
    assert place.host is not None
    place.host.refresh_from_db()
    return place.host


def test_a_lost_host_is_declared_dead(staff: Caller, workspace: Workspace) -> None:
    place = host()
    placement = placed(place, workspace)
    assert place.host is not None
    path = f"hosts/{place.host.typed_id}"
    early = staff.post(f"{path}/declare-dead")
    assert (early.status_code, early.json()["code"]) == (409, "NotLost") and "Drain it" in early.json()["detail"]
    row = lost(place)
    Placement.objects.update(due_at="2100-01-01T00:00:00Z")
    answer = staff.post(f"{path}/declare-dead")
    assert answer.status_code == 200 and answer.json()["declared_dead_at"]
    place.refresh_from_db()
    placement.refresh_from_db()
    assert place.gone_at is not None
    assert placement.due_at is not None and placement.due_at < timezone.now()
    assert AuditEntry.objects.get(action="host.declare_dead").target == row.typed_id
    assert staff.post(f"{path}/declare-dead").json()["declared_dead_at"] == answer.json()["declared_dead_at"]
    assert AuditEntry.objects.filter(action="host.declare_dead").count() == 1


def test_a_dead_host_is_forgotten_once_all_is_settled(staff: Caller, workspace: Workspace) -> None:
    place = host()
    placement = placed(place, workspace)
    assert place.host is not None
    path = f"hosts/{place.host.typed_id}"
    assert staff.delete(path).json()["code"] == "NotDead"
    lost(place)
    staff.post(f"{path}/declare-dead")
    busy = staff.delete(path)
    assert (busy.status_code, busy.json()["code"]) == (409, "InUse") and "digits #1" in busy.json()["detail"]
    ended(placement, "cancelled")
    assert staff.delete(path).status_code == 204
    assert not Host.objects.exists() and staff.get(path).status_code == 404
    assert staff.get("places").json()["items"] == []
    assert staff.get(f"placements/{placement.typed_id}").json()["host"] == "box"
    assert AuditEntry.objects.get(action="host.forget").detail == {"name": "box"}
    assert host().host is not None  # its name is free again


def test_only_staff_may(admin: Caller, as_role: Callable[..., Caller], workspace: Workspace) -> None:
    row = lost(host())
    for method, path, body in (
        ("POST", f"hosts/{row.typed_id}/declare-dead", None),
        ("DELETE", f"hosts/{row.typed_id}", None),
        ("POST", "hosts/invitations", {"name": "second"}),
    ):
        refused = admin(method, path, body)
        assert refused.status_code == 403 and "all workspaces" in refused.json()["detail"], path
        assert as_role("developer")(method, path, body).status_code == 403
    row.refresh_from_db()
    assert row.declared_dead_at is None and not HostInvitation.objects.exists()


def test_an_invitation_is_told_once(staff: Caller, settings: Any, tmp_path: Any) -> None:
    settings.WINDLASS_DOOR_DIRECTORY = tmp_path
    closed = staff.post("hosts/invitations", {"name": "second"})
    assert (closed.status_code, closed.json()["code"]) == (409, "NoDoor")
    (tmp_path / "door.json").write_text('{"address": "10.0.0.5:8443"}')
    made = staff.post("hosts/invitations", {"name": "second"})
    assert made.status_code == 201
    row = HostInvitation.objects.get()
    assert (made.json()["id"], made.json()["name"]) == (row.typed_id, "second")
    assert made.json()["token"] in made.json()["command"]
    assert staff.post("hosts/invitations", {"name": ""}).status_code == 422
