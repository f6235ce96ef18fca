"""Where workloads stand: clusters beside the hosts, each for its own workspace; and a run that names its place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Cluster, Host
from apps.placements.models import Place
from apps.training.models import TrainingRun
from tests.api.clouds import cluster, host, joined, placed
from tests.pages.addresses import ROOT
from tests.pages.conftest import make_workspace
from tests.pages.test_forms import run_form
from tests.pages.test_states import checked

pytestmark = pytest.mark.django_db


def test_a_workspace_sees_its_own_clusters(viewer: Client, workspace: Workspace) -> None:
    lab = joined(cluster(workspace, price_usd_per_hour=0.24, machines=2))
    theirs = joined(cluster(make_workspace("other"), "theirs"))
    placed(lab, workspace)
    text = checked(viewer.get(f"{ROOT}hosts/"), "hosts/")
    assert f'id="{lab.cluster.typed_id}"' in text and "2 machines of m7i.large in eu-central-1, $0.24/h" in text
    assert "1.5 of 4 held" in text and "1 workload;" in text
    assert theirs.name not in text
    Place.objects.filter(pk=lab.pk).update(phase="unreachable", message="lab does not answer: timed out")
    text = checked(viewer.get(f"{ROOT}hosts/"), "hosts/")
    assert "Not answering" in text and "timed out" in text
    Place.objects.filter(pk=lab.pk).update(gone_at=timezone.now())
    assert f'id="{lab.cluster.typed_id}"' not in checked(viewer.get(f"{ROOT}hosts/"), "hosts/")


def test_a_cluster_that_was_brought_has_no_price(viewer: Client, workspace: Workspace) -> None:
    row = cluster(workspace, "brought")
    Cluster.objects.filter(pk=row.pk).update(account=None, provider="kubeconfig", machine_type="", machines=0)
    row.refresh_from_db()
    joined(row)
    text = checked(viewer.get(f"{ROOT}hosts/"), "hosts/")
    assert "a Kubernetes that was there" in text and "$" not in text.partition('id="hosts"')[2].partition("</main>")[0]


def test_a_dead_host_says_so(viewer: Client, workspace: Workspace) -> None:
    place = host()
    Host.objects.filter(pk=place.host_id).update(lost_at=timezone.now(), declared_dead_at=timezone.now())
    assert "Declared dead" in checked(viewer.get(f"{ROOT}hosts/"), "hosts/")


def test_a_placement_names_its_cluster(viewer: Client, workspace: Workspace) -> None:
    lab = joined(cluster(workspace))
    placement = placed(lab, workspace)
    page = checked(viewer.get(f"{ROOT}placements/{placement.typed_id}/"), "placement")
    assert f'href="/w/team/hosts/#{lab.cluster.typed_id}"' in page and "Cluster" in page
    assert "lab" in checked(viewer.get(f"{ROOT}placements/"), "placements/")


def test_a_clone_keeps_its_nodes_and_its_place(developer: Client, workspace: Workspace, busy: SimpleNamespace) -> None:
    lab = joined(cluster(workspace))
    source = busy.run
    TrainingRun.objects.filter(pk=source.pk).update(nodes=2, processes=2, place=lab)
    shown = checked(developer.get(f"{ROOT}training/{source.typed_id}/"), "run")
    assert "2 on 2 nodes" in shown and ">lab<" in shown
    form = run_form(busy, processes="2")
    before = TrainingRun.objects.count()
    answer = developer.post(f"{ROOT}training/new/?clone={source.typed_id}", form)
    assert answer.status_code == 302, answer.content.decode()
    made = TrainingRun.objects.order_by("-pk")[0]
    assert TrainingRun.objects.count() == before + 1 and (made.nodes, made.place_id) == (2, lab.pk)
    Place.objects.filter(pk=lab.pk).update(gone_at=timezone.now())
    developer.post(f"{ROOT}training/new/?clone={source.typed_id}", form | {"idempotency_key": "k2"})
    again = TrainingRun.objects.order_by("-pk")[0]
    assert again.pk != made.pk and (again.nodes, again.place_id) == (2, None)
