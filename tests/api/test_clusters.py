"""Clusters: planned, approved, and taken back; with what they cost, and never with what opens them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.accounts.models import AuditEntry, Workspace
from apps.clusters.models import Cluster
from apps.core.models import Event
from tests.api.clouds import account, cluster, joined, offer, placed, resource
from tests.api.conftest import Caller
from tests.api.rows import ended, training_run

pytestmark = pytest.mark.django_db
PLAN = [{"key": "machine-0", "kind": "instance", "what": "A machine m7i.large", "price_usd_per_hour": 0.12}]


def body(workspace: Workspace, **changes: Any) -> dict[str, Any]:
    wanted = {"name": "lab", "account": account(workspace).typed_id, "machine_type": "m7i.large", "machines": 2}
    return {**wanted, **changes}


def test_a_cluster_waits_for_its_plan(admin: Caller, workspace: Workspace) -> None:
    made = admin.post("clusters", body(workspace), Idempotency_Key="k")
    shown = made.json()
    assert (made.status_code, shown["phase"], shown["approved"]) == (201, "planning", False)
    assert (shown["provider"], shown["region"], shown["machines"]) == ("ec2", "eu-central-1", 2)
    assert shown["network"] == {"cidr": "10.20.0.0/16"} and shown["allowed_cidrs"] == []
    assert (shown["plan"], shown["resources"], shown["cost_usd"], shown["place"]) == ([], [], 0.0, None)
    assert AuditEntry.objects.get(action="cluster.create").detail["machine_type"] == "m7i.large"
    assert Event.objects.filter(kind="cluster", reason="Created").count() == 1


def test_it_can_be_approved_beforehand(admin: Caller, workspace: Workspace) -> None:
    assert admin.post("clusters", body(workspace, approve=True)).json()["approved"] is True


def test_a_plan_is_approved_once_it_is_there(admin: Caller, workspace: Workspace) -> None:
    row = cluster(workspace, phase="planning")
    path = f"clusters/{row.typed_id}"
    early = admin.post(f"{path}/approve")
    assert (early.status_code, early.json()["code"]) == (409, "NotPlanned") and "wait" in early.json()["detail"]
    Cluster.objects.update(phase="planned", plan=PLAN, price_usd_per_hour=0.12)
    shown = admin.get(path)
    assert shown.json()["plan"] == PLAN
    assert (shown.json()["price_usd_per_hour"], shown.json()["price_usd_per_month"]) == (0.12, 87.6)
    assert admin.post(f"{path}/approve", If_Match='"7.1"').status_code == 412
    approved = admin.post(f"{path}/approve", If_Match=shown.headers["ETag"])
    assert (approved.status_code, approved.json()["approved"], approved.json()["generation"]) == (202, True, 2)
    event = Event.objects.get(kind="cluster", reason="Approved")
    assert "$0.12/h" in event.message
    again = admin.post(f"{path}/approve")
    assert (again.status_code, again.json()["generation"]) == (202, 2)
    assert AuditEntry.objects.filter(action="cluster.approve").count() == 1


@pytest.mark.parametrize("phase", ["failed", "cancelled", "cleaning"])
def test_what_ends_is_not_approved(admin: Caller, workspace: Workspace, phase: str) -> None:
    row = cluster(workspace, phase=phase)
    assert admin.post(f"clusters/{row.typed_id}/approve").json()["code"] == "NotPlanned"


def test_the_ledger_tells_what_each_thing_costs(admin: Caller, workspace: Workspace) -> None:
    row, now = cluster(workspace, phase="ready"), timezone.now()
    resource(row, "machine-0", intended_at=now - timedelta(hours=10), state="live", cloud_id="i-0abc")
    gone = {"intended_at": now - timedelta(hours=20), "gone_at": now - timedelta(hours=15), "state": "gone"}
    resource(row, "machine-1", **gone)
    resource(row, "network", price_usd_per_hour=0.0)
    place = joined(row)
    shown = admin.get(f"clusters/{row.typed_id}").json()
    live, ended_one, free = shown["resources"]
    assert (live["key"], live["cloud_id"], live["state"]) == ("machine-0", "i-0abc", "live")
    assert live["cost_usd"] == pytest.approx(1.2, abs=0.01)
    assert ended_one["cost_usd"] == pytest.approx(0.6, abs=0.001) and ended_one["gone_at"]
    assert free["cost_usd"] == 0.0
    assert shown["cost_usd"] == pytest.approx(1.8, abs=0.01)
    assert shown["place"] == place.typed_id
    assert shown["capacity"] == {"cpus": 4.0, "memory_bytes": 16 * 1024**3, "gpus": 0}
    (listed,) = admin.get("clusters").json()["items"]
    assert listed["place"] == place.typed_id and "resources" not in listed


def test_stopping_takes_it_back_and_keeps_the_row(admin: Caller, workspace: Workspace) -> None:
    row = cluster(workspace, phase="ready")
    stopped = admin.post(f"clusters/{row.typed_id}/stop")
    assert (stopped.status_code, stopped.json()["goal"]) == (202, "stop")
    ended(row, "cancelled", goal="stop")
    assert admin.post(f"clusters/{row.typed_id}/stop").status_code == 202
    ended(row, "cancelled", goal="run")
    assert admin.post(f"clusters/{row.typed_id}/stop").json()["code"] == "NotPossible"
    assert admin.delete(f"clusters/{row.typed_id}").json()["goal"] == "delete"


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_it_is_kept_while_somebodys_work_is_there(admin: Caller, workspace: Workspace, verb: str) -> None:
    row = cluster(workspace, phase="ready")
    place = joined(row)
    placement = placed(place, workspace)
    waiting = training_run(workspace, "flowers")
    type(waiting).objects.filter(pk=waiting.pk).update(place=place)
    path = f"clusters/{row.typed_id}"

    def ask(query: str = "") -> Any:
        return admin.post(f"{path}/stop{query}") if verb == "stop" else admin.delete(f"{path}{query}")

    refused = ask()
    assert (refused.status_code, refused.json()["code"]) == (409, "InUse")
    assert "digits #1" in refused.json()["detail"] and "flowers #1" in refused.json()["detail"]
    assert "force=true" in refused.json()["detail"]
    assert ask("?force=perhaps").status_code == 422
    assert Cluster.objects.get().goal == "run"
    ended(placement, "cancelled")
    ended(waiting, "cancelled")
    type(placement).objects.update(phase="running", due_at="2026-01-01T00:00:00Z")
    assert (ask("?force=true").status_code, Cluster.objects.get().goal) == (202, verb)


def test_it_goes_once_nothing_is_there(admin: Caller, workspace: Workspace) -> None:
    row = cluster(workspace, phase="ready")
    ended(placed(joined(row), workspace), "succeeded")
    assert admin.delete(f"clusters/{row.typed_id}", If_Match='"5.1"').status_code == 412
    assert admin.delete(f"clusters/{row.typed_id}").status_code == 202
    assert AuditEntry.objects.get(action="cluster.delete").target == row.typed_id


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"name": "Lab!"}, "name", "“lab” would work"),
        ({"machines": 0}, "machines", "1 to 100"),
        ({"machines": 101}, "machines", "1 to 100"),
        ({"disk_gib": 5}, "disk_gib", "20 to 16,384 GiB"),
        ({"machine_type": "m7i large"}, "machine_type", "no type of machine"),
        ({"network": {"cidr": "8.8.0.0/16"}}, "network.cidr", "not private"),
        ({"network": {"cidr": "10.0.0.0/8"}}, "network.cidr", "too large"),
        ({"network": {"cidr": "10.1.1.0/28"}}, "network.cidr", "too small"),
        ({"network": {"cidr": "10.1.2.3/16"}}, "network.cidr", "“10.1.0.0/16”"),
        ({"network": {"cidr": "10.42.0.0/20"}}, "network.cidr", "own pods"),
        ({"network": {"cidr": 7}}, "network.cidr", "no range"),
        ({"network": {"vpc_id": "net-1"}}, "network.vpc_id", "vpc-"),
        ({"network": {"vpc": "vpc-0a1b2c3d"}}, "network", "vpc_id"),
        ({"network": {"cidr": "10.1.0.0/16", "vpc_id": "vpc-0a1b2c3d"}}, "network", "vpc_id"),
        ({"allowed_cidrs": ["0.0.0.0/0"]}, "allowed_cidrs.0", "allow_anyone"),
        ({"allowed_cidrs": ["203.0.113.7", "0.0.0.0/1"]}, "allowed_cidrs.1", "allow_anyone"),
        ({"allowed_cidrs": ["example.org"]}, "allowed_cidrs.0", "203.0.113.7/32"),
        ({"allowed_cidrs": ["2001:db8::/32"]}, "allowed_cidrs.0", "IPv6"),
        ({"namespace": "apps"}, "namespace", "Leave namespace out"),
        ({"kubeconfg": "x"}, "kubeconfg", "Did you mean “kubeconfig”"),
    ],
)
def test_bad_values_say_what_would_work(
    admin: Caller, workspace: Workspace, change: dict[str, Any], field: str, words: str
) -> None:
    answer = admin.post("clusters", body(workspace, **change))
    assert answer.status_code == 422, answer.json()
    (error,) = answer.json()["errors"]
    assert error["field"] == field and words in f"{error['detail']} {error['fix']}"
    assert not Cluster.objects.exists()


def test_what_is_right_is_kept_as_it_is_written_best(admin: Caller, workspace: Workspace) -> None:
    wanted = {
        "network": {"vpc_id": "vpc-0a1b2c3d"},
        "allowed_cidrs": ["203.0.113.7", "0.0.0.0/0", "203.0.113.7/32"],
        "allow_anyone": True,
    }
    shown = admin.post("clusters", body(workspace, **wanted)).json()
    assert shown["network"] == {"vpc_id": "vpc-0a1b2c3d"}
    assert shown["allowed_cidrs"] == ["203.0.113.7/32", "0.0.0.0/0"]


def test_a_machine_without_a_price_is_refused_where_prices_are_known(admin: Caller, workspace: Workspace) -> None:
    offer("m7i.large")
    (error,) = admin.post("clusters", body(workspace, machine_type="m7i.larg")).json()["errors"]
    assert error["field"] == "machine_type" and error["fix"] == "Did you mean “m7i.large”?"


def test_an_account_that_was_refused_buys_nothing(admin: Caller, workspace: Workspace) -> None:
    refused = account(workspace, "old", phase="refused", message="The key is not known to AWS.")
    answer = admin.post("clusters", {"name": "lab", "account": refused.typed_id, "machine_type": "m7i.large"})
    assert (answer.status_code, answer.json()["code"]) == (409, "AccountRefused")
    assert "not known to AWS" in answer.json()["detail"]


def test_a_name_is_taken_until_its_cluster_is_gone(admin: Caller, workspace: Workspace) -> None:
    wanted = body(workspace)
    assert admin.post("clusters", wanted).status_code == 201
    taken = admin.post("clusters", wanted)
    assert (taken.status_code, taken.json()["code"]) == (409, "NameTaken")
    ended(Cluster.objects.get(), "deleted", goal="delete")
    assert admin.post("clusters", wanted).status_code == 201


def test_one_needs_an_account_or_a_kubeconfig(admin: Caller) -> None:
    errors = admin.post("clusters", {"name": "lab"}).json()["errors"]
    assert [error["field"] for error in errors] == ["account", "machine_type"]
    assert all("kubeconfig" in error["fix"] for error in errors)


def test_only_admins_spend_and_all_members_look(
    as_role: Callable[..., Caller], workspace: Workspace, other: Workspace
) -> None:
    row, theirs = cluster(workspace), cluster(other)
    path = f"clusters/{row.typed_id}"
    for role in ("viewer", "developer"):
        caller = as_role(role)
        assert caller.get(path).status_code == 200
        for answer in (
            caller.post("clusters", {}),
            caller.post(f"{path}/approve"),
            caller.post(f"{path}/stop"),
            caller.patch(path, {}),
            caller.delete(path),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "Forbidden")
    caller = as_role("admin")
    for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/approve"), ("POST", "/stop")):
        assert caller(method, f"clusters/{theirs.typed_id}{tail}").status_code == 404
