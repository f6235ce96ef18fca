"""The audit trail hears of sign-ins and tells by whom, from where; nobody changes it."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, transaction
from django.test import Client

from apps.accounts import audit
from apps.accounts.models import AuditEntry, User, Workspace
from apps.core.actor import WINDLASS

pytestmark = pytest.mark.django_db


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("pk").values_list("action", flat=True))


def test_signing_in_and_out_and_failing_to(user: User) -> None:
    user.set_password("a good long password")
    user.save()
    client = Client()
    client.post("/accounts/login/", {"login": user.email, "password": "wrong"}, headers={"X-Request-Id": "trace-0001"})
    failed = AuditEntry.objects.get()
    assert (failed.action, failed.target, failed.address) == ("session.sign_in_failed", user.email, "127.0.0.1")
    assert failed.request_id == "trace-0001"
    client.post("/accounts/login/", {"login": user.email, "password": "a good long password"})
    client.post("/accounts/logout/")
    assert actions() == ["session.sign_in_failed", "session.sign_in", "session.sign_out"]
    assert AuditEntry.objects.last().actor == f"user:{user.typed_id}"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "statement", ["UPDATE accounts_auditentry SET action = 'x'", "DELETE FROM accounts_auditentry"]
)
def test_an_entry_is_never_changed_nor_removed(workspace: Workspace, statement: str) -> None:
    from django.db import connection

    entry = audit.record(WINDLASS, "test.act", workspace=workspace)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEntry.objects.get(pk=entry.pk).action == "test.act"


def test_a_workspace_that_goes_leaves_its_trail(workspace: Workspace) -> None:
    workspace.delete()
    assert AuditEntry.objects.get(action="workspace.create").workspace is None
