from datetime import timedelta

from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Host
from apps.core.actor import WINDLASS
from apps.core.models import Event
from apps.core.wants import create, want
from apps.placements.models import Place
from workers import engine
from workers.engine import Outcome, Reconciler, Refused, Retry

HOUR = timedelta(hours=1)


def make_place() -> Place:
    host = Host.objects.create(name="h", cpus=2, memory_bytes=2**30)
    return Place.objects.create(host=host, queue=host.queue)


def steps(act) -> dict[str, Reconciler]:
    return {"place": Reconciler("place", {"watching": act, "unreachable": act, "cleaning": act})}


def test_only_one_of_five_deliveries_takes_a_row(workspace: Workspace) -> None:
    place = make_place()
    leases = [engine.claim("place", place.pk) for _ in range(5)]
    assert [lease is not None for lease in leases] == [True, False, False, False, False]


def test_a_row_that_is_not_due_is_left_alone(workspace: Workspace) -> None:
    place = make_place()
    Place.objects.update(due_at=timezone.now() + HOUR)
    assert engine.claim("place", place.pk) is None


def test_a_killed_worker_counts_a_strike_and_the_row_comes_back(workspace: Workspace) -> None:
    place = make_place()
    lease = engine.claim("place", place.pk)
    assert lease is not None
    place.refresh_from_db()
    assert place.strikes == 1
    assert place.due_at > place.lease_expires_at > timezone.now()
    past = timezone.now() - HOUR
    Place.objects.update(lease_expires_at=past, due_at=past)
    again = engine.claim("place", place.pk)
    assert again is not None
    assert again.row.strikes == 2


def test_a_stale_worker_changes_nothing(workspace: Workspace) -> None:
    place = make_place()
    stale = engine.claim("place", place.pk)
    Place.objects.update(lease_expires_at=timezone.now() - HOUR, due_at=timezone.now() - HOUR)
    fresh = engine.claim("place", place.pk)
    assert stale and fresh
    assert engine.apply(stale, Outcome("unreachable", reason="Stale")) is False
    place.refresh_from_db()
    assert (place.phase, place.lease_token) == ("watching", fresh.token)
    assert engine.apply(fresh, Outcome("unreachable", reason="Fresh")) is True
    assert list(Event.objects.values_list("reason", flat=True)) == ["Fresh"]


def test_a_want_during_a_step_makes_the_row_due_again(workspace: Workspace) -> None:
    place = make_place()
    lease = engine.claim("place", place.pk)
    assert lease
    want(place, WINDLASS, goal="delete")
    engine.apply(lease, Outcome("watching", after=500))
    place.refresh_from_db()
    assert place.due_at <= timezone.now()
    assert place.observed_generation == 1
    assert place.goal == "delete"


def test_a_new_phase_looks_at_once(workspace: Workspace) -> None:
    """What it waits for may have come, and its wake been spent, before the step that led to it."""
    place = make_place()
    engine.reconcile("place", place.pk, steps(lambda row, context: Outcome("unreachable")))
    place.refresh_from_db()
    assert place.due_at <= timezone.now()
    engine.reconcile("place", place.pk, steps(lambda row, context: Outcome("unreachable")))
    place.refresh_from_db()
    assert place.due_at > timezone.now() + timedelta(minutes=5)


def test_success_forgives_strikes(workspace: Workspace) -> None:
    place = make_place()
    Place.objects.update(strikes=5)
    engine.reconcile("place", place.pk, steps(lambda row, context: Outcome("watching")))
    place.refresh_from_db()
    assert place.strikes == 0


def test_a_bug_keeps_the_phase_and_ten_quarantine(workspace: Workspace) -> None:
    place = make_place()

    def bug(row, context):
        raise ZeroDivisionError

    for _ in range(10):
        Place.objects.update(due_at=timezone.now() - HOUR)
        engine.reconcile("place", place.pk, steps(bug))
    place.refresh_from_db()
    assert (place.phase, place.reason, place.strikes) == ("watching", "Quarantined", 10)
    assert place.quarantined
    assert place.due_at > timezone.now() + timedelta(minutes=50)


def test_what_was_wanted_during_a_failing_step_is_looked_at_at_once(workspace: Workspace) -> None:
    """A cancel must not wait for an hour because the step that it ends has a bug."""
    place = make_place()

    def bug(row, context):
        want(row, WINDLASS, goal="delete")
        raise ZeroDivisionError

    Place.objects.update(strikes=20)
    engine.reconcile("place", place.pk, steps(bug))
    place.refresh_from_db()
    assert place.due_at <= timezone.now()
    engine.reconcile("place", place.pk, steps(bug))
    place.refresh_from_db()
    assert (place.phase, place.ending) == ("cleaning", "deleted")


def test_a_retry_keeps_its_place_and_is_no_strike(workspace: Workspace) -> None:
    place = make_place()

    def later(row, context):
        raise Retry("Throttled", "The cloud asked for a pause.", after=30)

    engine.reconcile("place", place.pk, steps(later))
    place.refresh_from_db()
    assert (place.phase, place.reason, place.strikes, place.retries) == ("watching", "Throttled", 0, 1)
    assert timedelta(seconds=20) < place.due_at - timezone.now() < timedelta(seconds=40)


def test_a_refusal_goes_through_cleaning(workspace: Workspace) -> None:
    place = make_place()

    def no(row, context):
        raise Refused("NoQuota", "Not allowed. Ask for more.")

    engine.reconcile("place", place.pk, steps(no))
    place.refresh_from_db()
    assert (place.phase, place.ending, place.reason) == ("cleaning", "failed", "NoQuota")


def test_a_step_may_not_write_a_goal_or_a_spec(workspace: Workspace) -> None:
    place = make_place()
    engine.reconcile("place", place.pk, steps(lambda row, context: Outcome("watching", fields={"goal": "stop"})))
    place.refresh_from_db()
    assert (place.goal, place.reason) == ("run", "InternalError")


def test_an_undeclared_transition_is_a_bug(workspace: Workspace) -> None:
    place = make_place()
    engine.reconcile("place", place.pk, steps(lambda row, context: Outcome("deleted")))
    place.refresh_from_db()
    assert (place.phase, place.reason) == ("watching", "InternalError")


def test_a_record_needs_the_lease(workspace: Workspace) -> None:
    place = make_place()
    written = []

    def step(row, context):
        Place.objects.update(lease_token=None)
        context.record("late", lambda: written.append(1))
        return Outcome("watching")

    engine.reconcile("place", place.pk, steps(step))
    assert written == []


def test_create_writes_the_first_event(workspace: Workspace) -> None:
    host = Host.objects.create(name="h2", cpus=2, memory_bytes=2**30)
    place = create(Place(host=host), WINDLASS)
    event = Event.objects.get(row_id=place.pk)
    assert (event.old, event.new, event.reason) == ("", "watching", "Created")
