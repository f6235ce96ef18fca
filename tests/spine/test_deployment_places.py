"""One deployment on several places: who is listed when, and that nobody who is listed is stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from apps.clusters.models import Host
from apps.core.actor import WINDLASS
from apps.core.wants import wake, want
from apps.deployments.models import Gateway
from apps.placements.models import Place, Placement, Reservation
from apps.placements.services import close_place
from tests.spine.conftest import World
from tests.spine.sites import Sites
from workers import targets
from workers.reconcilers.deployments import BEGIN_SECONDS
from workers.reconcilers.gateways import routes
from workers.reconcilers.parts import is_applied


@pytest.fixture
def sites(world: World, monkeypatch: pytest.MonkeyPatch) -> Sites:
    made = Sites(world)
    monkeypatch.setattr(targets, "target_for", made.target_for)
    return made


def test_each_place_gets_its_replicas_and_its_share(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(2, 70), cloud=(1, 30)))
    sites.settled(row, answers=False)
    assert sites.listed(row) == {"near": ("r1", 70, 2), "cloud": ("r1", 30, 1)}
    assert (row.ready_replicas, row.serving_revision) == (3, 1)
    assert row.message == "3 ready on 2 places, r1 answers."
    (route,) = routes([row])
    assert [(one.weight, len(one.endpoints), one.replicas) for one in route.backends] == [(70, 2, 2), (30, 1, 1)]
    assert sorted(Placement.objects.values_list("slot", flat=True)) == sorted(
        f"r1/{sites.places[name].typed_id}" for name in ("near", "cloud")
    )
    assert sorted(Reservation.objects.values_list("cpus", flat=True)) == [0.25, 0.5]


def test_a_place_that_is_not_ready_leaves_its_share_to_the_others_until_it_is(sites: Sites) -> None:
    sites["cloud"].held = True
    row = sites.deploy(**sites.spread(near=(1, 50), cloud=(2, 50)))
    sites.until(row, lambda: row.phase == "serving" and row.ready_replicas == 1, answers=False)
    assert sites.listed(row) == {"near": ("r1", 50, 1)}
    assert row.message == "1 of 3 replicas ready."
    sites["cloud"].let_go()
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r1", 50, 1), "cloud": ("r1", 50, 2)}


def test_another_weight_is_another_list_and_nothing_else(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 50), far=(1, 50)))
    sites.settled(row, answers=False)
    before = set(Placement.objects.values_list("pk", "generation"))
    sites.change(row, **sites.spread(near=(1, 90), far=(1, 10)))
    sites.until(row, lambda: sites.listed(row) == {"near": ("r1", 90, 1), "far": ("r1", 10, 1)})
    sites.settled(row)
    assert set(Placement.objects.values_list("pk", "generation")) == before


def test_replicas_of_one_place_come_and_go_without_the_others(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(3, 50), far=(1, 50)))
    sites.settled(row, answers=False)
    sites.change(row, **sites.spread(near=(1, 50), far=(3, 50)))
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r1", 50, 1), "far": ("r1", 50, 3)}
    assert sorted(len(site.running) for site in sites.by_place.values()) == [0, 1, 1]


def test_moving_to_another_place_loses_nothing(sites: Sites) -> None:
    """The old place answers until all of the new one is ready; its replicas stop when the gateway has left them."""
    row = sites.deploy(**sites.spread(near=(2, 100)))
    sites.settled(row, answers=False)
    sites["cloud"].held = True
    sites.change(row, **sites.spread(cloud=(2, 100)))
    sites.until(row, lambda: row.phase == "updating" and sites["cloud"].running)
    assert sites.listed(row) == {"near": ("r1", 100, 2)}
    sites["cloud"].let_go()
    sites.settled(row)
    assert sites.listed(row) == {"cloud": ("r1", 100, 2)}
    assert not sites["near"].running
    sites.change(row, spread=[], replicas=2)
    sites.settled(row)
    assert sites.listed(row) == {"cloud": ("r1", 100, 2)}, "it stands somewhere already"


def test_what_stands_already_is_not_started_anew_when_a_place_is_added(sites: Sites) -> None:
    row = sites.deploy(replicas=2)
    sites.settled(row, answers=False)
    (first,) = Placement.objects.all()
    assert first.place.name == "near"
    sites.change(row, **sites.spread(near=(2, 60), far=(1, 40)))
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r1", 60, 2), "far": ("r1", 40, 1)}
    assert Placement.objects.count() == 2
    assert row.listing[0]["placement"] == str(first.pk)


def test_a_lost_place_leaves_its_share_and_is_cleaned_up_when_it_is_back(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 50), far=(2, 50)))
    sites.settled(row, answers=False)
    sites.lose("far")
    sites.until(row, lambda: row.phase == "degraded")
    assert sites.listed(row) == {"near": ("r1", 50, 1)}
    assert row.reason == "PlaceMissing"
    assert row.message == ("1 of 3 replicas ready. far is lost: nobody there answers. The other places take its share.")
    sites.until(row, lambda: Placement.objects.filter(goal="delete").count() == 1)
    lost = Placement.objects.get(goal="delete")
    assert Reservation.objects.filter(placement=lost).exists(), "it may well go on there"
    sites.change(row, revision=2)
    sites.until(row, lambda: sites.listed(row) == {"near": ("r2", 50, 1)})
    sites.until(row, lambda: row.phase == "degraded" and row.serving_revision == 2)
    sites.bring_back("far")
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r2", 50, 1), "far": ("r2", 50, 2)}
    lost.refresh_from_db()
    assert lost.phase == "deleted" and len(sites["far"].running) == 1


def test_a_deployment_that_may_stand_anywhere_goes_elsewhere_at_once(sites: Sites) -> None:
    row = sites.deploy(replicas=2)
    sites.settled(row, answers=False)
    assert sites.listed(row) == {"near": ("r1", 100, 2)}
    sites["far"].held = True
    sites.lose("near")
    sites.until(row, lambda: sites["far"].running)
    assert sites.listed(row) == {"near": ("r1", 100, 2)}, "perhaps it is cut off from us alone: better than nothing"
    assert row.phase == "degraded"
    sites["far"].let_go()
    sites.until(row, lambda: sites.listed(row) == {"far": ("r1", 100, 2)})
    sites.until(row, lambda: row.phase == "serving" and Placement.objects.filter(goal="delete").exists())
    sites.bring_back("near")
    sites.settled(row)
    assert not sites["near"].running
    assert sites.listed(row) == {"far": ("r1", 100, 2)}


def test_a_lost_host_that_is_back_before_another_is_ready_goes_on(sites: Sites) -> None:
    row = sites.deploy()
    sites.settled(row, answers=False)
    first = row.listing
    sites["far"].held = sites["cloud"].held = True
    sites.lose("near")
    sites.until(row, lambda: sites["far"].running)
    sites.bring_back("near")
    sites.settled(row)
    assert row.listing == first
    assert not sites["far"].running


def test_a_place_without_room_holds_nobody_up(sites: Sites) -> None:
    Host.objects.filter(name="far").update(cpus=0.3)
    row = sites.deploy(**sites.spread(near=(1, 50), far=(2, 50)))
    sites.until(row, lambda: row.phase == "degraded", answers=False)
    assert sites.listed(row) == {"near": ("r1", 50, 1)}
    assert "1 of 3 replicas ready. Waiting for capacity: far has 0.3 processors in all, 0.5 are needed" in row.message
    assert row.message.endswith("The other places take its share.")
    sites.change(row, revision=2)
    sites.until(row, lambda: row.serving_revision == 2)
    assert sites.listed(row) == {"near": ("r2", 50, 1)}
    Host.objects.filter(name="far").update(cpus=4)
    wake("deployment", [row.pk])
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r2", 50, 1), "far": ("r2", 50, 2)}


def test_a_cluster_without_a_machine_for_it_is_waited_for_minutes_only(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 50), cloud=(1, 50)))
    sites.settled(row, answers=False)
    sites["cloud"].held = sites["cloud"].full = True
    sites.change(row, revision=2)
    sites.until(row, lambda: row.phase == "updating" and row.ready_replicas == 1)
    assert sites.listed(row) == {"near": ("r1", 50, 1), "cloud": ("r1", 50, 1)}
    ago = timezone.now() - timedelta(seconds=BEGIN_SECONDS)
    Placement.objects.filter(slot__startswith="r2/").update(mutated_at=ago)
    wake("deployment", [row.pk])
    sites.until(row, lambda: row.phase == "degraded")
    assert sites.listed(row) == {"near": ("r2", 50, 1)}
    assert row.message == (
        "1 of 2 replicas ready. cloud has not begun: No machine has 0.25 processors free. The other places take its "
        "share."
    )
    sites["cloud"].let_go()
    sites.look("cloud")
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r2", 50, 1), "cloud": ("r2", 50, 1)}
    sites["cloud"].held = sites["cloud"].full = True
    sites.change(row, **sites.spread(near=(1, 50), cloud=(2, 50)))
    sites.until(row, lambda: row.message == "2 of 3 replicas ready.")
    Placement.objects.filter(slot__startswith="r2/").update(mutated_at=ago)
    wake("deployment", [row.pk])
    sites.until(row, lambda: "cloud has begun only 1 of 2: No machine has 0.25 processors free." in row.message)
    assert row.phase == "degraded"


def test_a_new_revision_waits_for_every_place_that_can_have_it(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 50), far=(1, 50)))
    sites.settled(row, answers=False)
    sites["far"].held = True
    sites.change(row, revision=2)
    sites.until(row, lambda: row.phase == "updating" and row.ready_replicas == 1)
    assert sites.listed(row) == {"near": ("r1", 50, 1), "far": ("r1", 50, 1)}
    assert row.message == "Moving to r2: 1 of 2 replicas ready, r1 answers."
    sites["far"].let_go()
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r2", 50, 1), "far": ("r2", 50, 1)}


def test_a_cluster_whose_api_is_away_stays_listed_and_is_named(sites: Sites) -> None:
    """Envoy finds out for itself which of its replicas answer."""
    row = sites.deploy(**sites.spread(near=(1, 50), cloud=(1, 50)))
    sites.settled(row, answers=False)
    both = sites.listed(row)
    sites["cloud"].silent = True
    sites.look("cloud")
    place = sites.places["cloud"]
    sites.until(row, lambda: (place.refresh_from_db(), place.phase)[1] == "unreachable")
    assert row.phase == "serving", "one look that failed says nothing yet"
    Place.objects.filter(pk=place.pk).update(phase_since=timezone.now() - timedelta(seconds=30))
    wake("deployment", [row.pk])
    sites.until(row, lambda: row.phase == "degraded")
    assert row.message == (
        "2 of 2 replicas ready. cloud does not answer; its replicas get requests as long as the gateway reaches them."
    )
    sites.change(row, revision=2)
    sites.until(row, lambda: row.serving_revision == 2)
    assert sites.listed(row) == {"near": ("r2", 50, 1)}, "the new revision can't be there now"
    assert both == {"near": ("r1", 50, 1), "cloud": ("r1", 50, 1)}
    sites["cloud"].silent = False
    sites.look("cloud")
    sites.settled(row)
    assert sites.listed(row) == {"near": ("r2", 50, 1), "cloud": ("r2", 50, 1)}


def test_a_place_that_is_gone_is_named(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 50), far=(1, 50)))
    sites.settled(row, answers=False)
    sites.lose("far")
    with transaction.atomic():
        close_place(sites.places["far"])
    sites.until(row, lambda: row.phase == "degraded" and "far is gone: take it out of the spread." in row.message)
    sites.change(row, **sites.spread(near=(2, 100)))
    sites.settled(row)
    assert not Reservation.objects.filter(place=sites.places["far"]).exists()


def test_what_a_cluster_says_of_addresses_takes_none_from_a_host(sites: Sites) -> None:
    """Else whoever brings a cluster could silence a neighbour's deployment."""
    sites["cloud"].number = sites["near"].number
    row = sites.deploy(**sites.spread(near=(1, 50), cloud=(2, 50)))
    sites.settled(row, answers=False)
    assert len(row.listing) == 2
    assert sorted(sites.answering(row)) == ["127.0.0.1:20000", "127.0.0.1:20001"]
    (route,) = routes([row])
    (near,) = [one for one in route.backends if len(one.endpoints) == one.replicas]
    assert near.endpoints[0].port == 20000


def test_an_address_that_is_none_costs_only_whose_it_is(sites: Sites) -> None:
    sites["cloud"].address = "replica.example"
    row = sites.deploy(**sites.spread(near=(1, 50), cloud=(1, 50)))
    sites.settled(row, answers=False)
    assert sites.answering(row) == ["127.0.0.1:20000"]


def test_stopping_and_deleting_wait_for_no_lost_host(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 50), far=(1, 50)))
    sites.settled(row, answers=False)
    sites.lose("far")
    want(row, WINDLASS, goal="stop")
    sites.until(row, lambda: row.phase == "stopped", answers=False)
    want(row, WINDLASS, goal="delete")
    sites.until(row, lambda: row.phase == "deleted", answers=False)
    sites.bring_back("far")
    sites.world.until(lambda: not Reservation.objects.exists())
    assert not sites["far"].running


def test_stopping_says_which_place_it_waits_for(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 50), cloud=(1, 50)))
    sites.settled(row, answers=False)
    sites["cloud"].silent = True
    sites.look("cloud")
    want(row, WINDLASS, goal="stop")
    told = "cloud does not answer: what runs there stops when it does."
    sites.until(row, lambda: row.phase == "stopping" and row.message.endswith(told), answers=False)
    sites["cloud"].silent = False
    sites.look("cloud")
    sites.until(row, lambda: row.phase == "stopped", answers=False)


def test_a_gateway_that_only_a_lost_host_asks_is_not_waited_for(sites: Sites) -> None:
    row = sites.deploy(**sites.spread(near=(1, 100)))
    sites.settled(row, answers=False)
    host = Host.objects.get(name="far")
    gateway = Gateway.objects.create(name="far gateway", host=host, queue=host.queue, due_at=timezone.now())
    Gateway.objects.filter(pk=gateway.pk).update(queue="nobody")
    assert not is_applied(row), "another worker asks it, sooner or later"
    Gateway.objects.filter(pk=gateway.pk).update(queue=host.queue)
    assert not is_applied(row)
    Host.objects.filter(pk=host.pk).update(lost_at=timezone.now())
    assert is_applied(row)
