"""Cloud accounts: only admins see them, their credentials go in and never come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from apps.accounts.models import AuditEntry, Workspace
from apps.clouds.models import CloudAccount, CloudSight
from apps.core.models import Event
from apps.core.sealing import unseal_field
from tests.api.clouds import CREDENTIALS, account, cluster
from tests.api.conftest import Caller
from tests.api.rows import ended

pytestmark = pytest.mark.django_db
BODY = {"name": "prod", "provider": "ec2", "region": "eu-central-1", "credentials": CREDENTIALS}


def everything_told(caller: Caller) -> str:
    """What an admin can read, and what is kept for them to read."""
    answers = [caller.get(path).content.decode() for path in ("cloud-accounts", "events", "audit")]
    return "".join([*answers, str(list(Event.objects.values_list())), str(list(AuditEntry.objects.values_list()))])


def test_credentials_are_sealed_and_never_shown(admin: Caller) -> None:
    made = admin.post("cloud-accounts", BODY, Idempotency_Key="k1")
    assert (made.status_code, made.json()["phase"]) == (201, "checking")
    row = CloudAccount.objects.get()
    assert json.loads(unseal_field(row, "credentials")) == CREDENTIALS
    path = f"cloud-accounts/{made.json()['id']}"
    new = {**CREDENTIALS, "secret_access_key": "planted/another"}
    changed = admin.patch(path, {"credentials": new})
    assert (changed.status_code, changed.json()["generation"]) == (202, 2)
    row.refresh_from_db()
    assert json.loads(unseal_field(row, "credentials")) == new
    told = everything_told(admin) + made.content.decode() + changed.content.decode() + admin.get(path).content.decode()
    assert "planted" not in told.lower() and row.credentials not in told
    actions = list(AuditEntry.objects.filter(target=row.typed_id).order_by("pk").values_list("action", flat=True))
    assert actions == ["cloud_account.create", "cloud_account.change"]


def test_a_repeated_post_makes_one(admin: Caller) -> None:
    first, again = (admin.post("cloud-accounts", BODY, Idempotency_Key="k1") for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert CloudAccount.objects.count() == 1
    taken = admin.post("cloud-accounts", BODY)
    assert (taken.status_code, taken.json()["code"]) == (409, "NameTaken")


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": "Prod 1"}, "name", "“prod-1” would work"),
        ({"provider": "ecs"}, "provider", "ec2"),
        ({"region": "Frankfurt"}, "region", "eu-central-1"),
        ({"credentials": {"access_key_id": "AKIA0"}}, "credentials.secret_access_key", "Send it"),
        ({"credentials": {**CREDENTIALS, "access_key": "x"}}, "credentials", "Did you mean “access_key_id”"),
        ({"credentials": {**CREDENTIALS, "secret_access_key": "a b"}}, "credentials.secret_access_key", "Copy it"),
        ({"credentials": {**CREDENTIALS, "secret_access_key": ["a"]}}, "credentials.secret_access_key", "Copy it"),
        ({"credentials": "AKIA0:secret"}, "credentials", "object"),
    ],
)
def test_bad_values_are_named_without_repeating_a_secret(
    admin: Caller, change: dict[str, Any], field: str, words: str
) -> None:
    answer = admin.post("cloud-accounts", {**BODY, **change})
    assert answer.status_code == 422, answer.json()
    (error,) = answer.json()["errors"]
    assert error["field"] == field and words in f"{error['detail']} {error['fix']}"
    assert CREDENTIALS["secret_access_key"] not in answer.content.decode()


def test_it_shows_what_the_check_found_and_what_strays(admin: Caller, workspace: Workspace) -> None:
    finding = {"code": "NotPermitted", "message": "It may not run instances.", "fix": "Allow ec2:RunInstances."}
    row = account(workspace, phase="refused", identity="arn:aws:iam::1:user/w", findings=[finding])
    stray = {"cloud_id": "i-0abc", "price_usd_per_hour": 0.12, "cost_usd": 3.5}
    CloudSight.objects.create(
        workspace=workspace, account=row, region="eu-central-1", resource_kind="instance", strays=[stray]
    )
    shown = admin.get(f"cloud-accounts/{row.typed_id}").json()
    assert (shown["identity"], shown["findings"], shown["phase"]) == ("arn:aws:iam::1:user/w", [finding], "refused")
    (told,) = shown["strays"]
    assert told["kind"] == "instance" and told["region"] == "eu-central-1" and told["cloud_id"] == "i-0abc"
    assert "strays" not in admin.get("cloud-accounts").json()["items"][0]


def test_a_check_wakes_it(admin: Caller, workspace: Workspace) -> None:
    row = account(workspace)
    CloudAccount.objects.update(due_at="2100-01-01T00:00:00Z")
    assert admin.post(f"cloud-accounts/{row.typed_id}/check").status_code == 202
    after = CloudAccount.objects.get()
    assert after.due_at is not None and after.due_at.year < 2100 and after.wakes == row.wakes + 1
    assert admin.post(f"cloud-accounts/{row.typed_id}/check", If_Match='"9.1"').status_code == 412
    assert AuditEntry.objects.filter(action="cloud_account.check").count() == 1


def test_it_is_not_deleted_while_a_cluster_uses_it(admin: Caller, workspace: Workspace) -> None:
    row = account(workspace)
    lab = cluster(workspace)
    path = f"cloud-accounts/{row.typed_id}"
    refused = admin.delete(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "InUse") and "“lab”" in refused.json()["detail"]
    moved = admin.patch(path, {"region": "us-east-1"})
    assert (moved.status_code, moved.json()["code"]) == (409, "InUse")
    ended(lab, "deleted", goal="delete")
    assert admin.patch(path, {"region": "us-east-1"}).json()["region"] == "us-east-1"
    assert (admin.delete(path).status_code, CloudAccount.objects.get().goal) == (202, "delete")
    body = {"name": "late", "account": row.typed_id, "machine_type": "m7i.large"}
    assert admin.post("clusters", body).json()["code"] == "Deleting"
    assert admin.post(f"{path}/check").json()["code"] == "Deleting"


def test_a_change_of_nothing_is_told(admin: Caller, workspace: Workspace) -> None:
    row = account(workspace)
    assert admin.patch(f"cloud-accounts/{row.typed_id}", {}).status_code == 422
    assert admin.patch(f"cloud-accounts/{row.typed_id}", {"name": "other"}).status_code == 422


def test_only_admins_and_only_of_its_workspace(
    as_role: Callable[..., Caller], workspace: Workspace, other: Workspace
) -> None:
    row = account(other)
    for role in ("viewer", "developer"):
        assert as_role(role).get("cloud-accounts").status_code == 403
        assert as_role(role).post("cloud-accounts", BODY).status_code == 403
    caller = as_role("admin")
    assert caller.get(f"cloud-accounts/{row.typed_id}").status_code == 404
    assert caller.delete(f"cloud-accounts/{row.typed_id}").status_code == 404
    assert caller.post(f"cloud-accounts/{row.typed_id}/check").status_code == 404
    body = {"name": "lab", "account": row.typed_id, "machine_type": "m7i.large"}
    assert caller.post("clusters", body).json()["errors"][0]["field"] == "account"
