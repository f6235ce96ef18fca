"""A Kubernetes that was there is brought by its kubeconfig, which is checked, sealed, and never shown again."""

from __future__ import annotations

import pytest

from apps.accounts.models import AuditEntry, Workspace
from apps.clusters.models import Cluster
from apps.core.models import Event
from apps.core.sealing import unseal_field
from tests.api.clouds import cluster
from tests.api.conftest import Caller
from tests.targets.kubernetes.test_kubeconfig import kubeconfig

pytestmark = pytest.mark.django_db
TOKEN = "a-token-that-nobody-may-see"
GIVEN = kubeconfig(user={"token": TOKEN})


def test_it_is_kept_sealed_and_shown_to_nobody(admin: Caller, workspace: Workspace) -> None:
    made = admin.post("clusters", {"name": "ours", "kubeconfig": GIVEN, "namespace": "models", "reach": "nodes"})
    shown = made.json()
    assert (made.status_code, shown["provider"], shown["phase"]) == (201, "kubeconfig", "planning")
    row = Cluster.objects.get(name="ours")
    assert (row.namespace, row.reach, row.approved, row.machines) == ("models", "nodes", True, 0)
    assert unseal_field(row, "kubeconfig").decode() == GIVEN and TOKEN not in row.kubeconfig
    told = [str(list(Event.objects.values())), str(list(AuditEntry.objects.values())), made.content.decode()]
    assert not any(TOKEN in text or row.kubeconfig in text for text in told)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (kubeconfig(user={"exec": {"command": "aws", "apiVersion": "v1"}}), "exec"),
        (kubeconfig({"server": "http://kube.example.org"}), "https"),
        (kubeconfig({"insecure-skip-tls-verify": True}), "certificate"),
        ("no: kubeconfig", "current-context"),
    ],
)
def test_one_that_can_not_be_used_safely_is_refused(admin: Caller, text: str, says: str) -> None:
    refused = admin.post("clusters", {"name": "ours", "kubeconfig": text})
    assert refused.status_code == 422
    error = refused.json()["errors"][0]
    assert error["field"] == "kubeconfig" and says in f"{error['detail']} {error.get('fix', '')}"
    assert not Cluster.objects.exists()


def test_it_can_be_given_another_one(admin: Caller, workspace: Workspace) -> None:
    made = admin.post("clusters", {"name": "ours", "kubeconfig": kubeconfig()}).json()
    changed = admin.patch(f"clusters/{made['id']}", {"kubeconfig": GIVEN})
    assert (changed.status_code, changed.json()["generation"]) == (202, 2)
    assert unseal_field(Cluster.objects.get(name="ours"), "kubeconfig").decode() == GIVEN


def test_one_that_was_bought_has_none_to_change(admin: Caller, workspace: Workspace) -> None:
    row = cluster(workspace)
    refused = admin.patch(f"clusters/{row.typed_id}", {"kubeconfig": GIVEN})
    assert (refused.status_code, refused.json()["code"]) == (409, "NotPossible")
