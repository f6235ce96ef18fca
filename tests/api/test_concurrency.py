"""Many requests at once: one thing is done once, numbers are not given twice, the last admin stays."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from apps.accounts import services
from apps.accounts.models import Membership, Workspace
from apps.core.actor import WINDLASS
from apps.core.errors import Problem
from apps.registry.models import Dataset
from apps.training.models import TrainingRun
from tests.api.conftest import Caller, make_workspace
from tests.api.rows import dataset_version

pytestmark = pytest.mark.django_db(transaction=True)
AT_ONCE = 5


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """All of them begin together; what they return, or the Problem that they raise."""
    barrier = Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        try:
            barrier.wait(10)
            return act()
        except Problem as problem:
            return problem
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


@pytest.fixture
def team(transactional_db: None) -> Workspace:
    return make_workspace("team")


@pytest.fixture
def callers(team: Workspace) -> list[Caller]:
    secret = services.create_api_key(team, WINDLASS, name="k", role="admin").secret
    return [Caller(team, secret) for _ in range(AT_ONCE)]


def test_one_idempotency_key_at_once_does_the_work_once(callers: list[Caller]) -> None:
    def post(caller: Caller) -> Any:
        return caller.post("datasets", {"name": "flowers"}, Idempotency_Key="k1")

    answers = at_once(*(lambda caller=caller: post(caller) for caller in callers))
    assert Dataset.objects.count() == 1
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {201, 409} and 201 in statuses
    later = post(callers[0])
    assert later.status_code == 201 and later.headers["Idempotent-Replayed"] == "true"


def test_runs_made_at_once_get_a_number_each(callers: list[Caller], team: Workspace) -> None:
    body = {"model": "new", "recipe": "image_classifier", "dataset_version": dataset_version(team).typed_id}
    answers = at_once(*(lambda caller=caller: caller.post("training-runs", body) for caller in callers))
    assert [answer.status_code for answer in answers] == [201] * AT_ONCE
    assert sorted(TrainingRun.objects.values_list("number", flat=True)) == list(range(1, AT_ONCE + 1))
    assert TrainingRun.objects.values("model").distinct().count() == 1


def test_two_admins_who_remove_each_other_leave_one(team: Workspace) -> None:
    services.add_member(team, WINDLASS, email="grace@example.org", role="admin")
    members = list(Membership.objects.all())
    results = at_once(*(lambda member=member: services.remove_member(member, WINDLASS) for member in members))
    assert sum(isinstance(result, Problem) for result in results) == 1
    assert Membership.objects.count() == 1


def test_a_link_used_at_once_signs_in_once(team: Workspace) -> None:
    token = services.make_link(Membership.objects.get().user)
    results = at_once(*([lambda: services.use_link(token)] * AT_ONCE))
    assert sum(not isinstance(result, Problem) for result in results) == 1


def test_a_dataset_is_either_deleted_or_used(callers: list[Caller], team: Workspace) -> None:
    version = dataset_version(team)
    body = {"model": "new", "recipe": "image_classifier", "dataset_version": version.typed_id}
    made, deleted = at_once(
        lambda: callers[0].post("training-runs", body),
        lambda: callers[1].delete(f"dataset-versions/{version.typed_id}"),
    )
    assert (made.status_code, deleted.status_code) in {(201, 409), (409, 202), (422, 202)}
