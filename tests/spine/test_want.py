import pytest
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.core.actor import Actor
from apps.core.models import Event
from apps.core.wants import Deleting, NotStoppable, Outdated, create, want
from apps.deployments.models import Deployment

ALICE = Actor("user:usr_1", "Alice")


@pytest.fixture
def deployment(workspace: Workspace) -> Deployment:
    return create(Deployment(workspace=workspace, name="digits"), ALICE)


def test_a_want_moves_the_generation_wakes_and_tells(deployment: Deployment) -> None:
    Deployment.objects.update(due_at=timezone.now() + timezone.timedelta(hours=1))
    changed = want(deployment, ALICE, spec={"replicas": 3})
    deployment.refresh_from_db()
    assert (changed.generation, deployment.generation, deployment.version) == (2, 2, 2)
    assert (deployment.replicas, deployment.wakes) == (3, 1)
    assert deployment.due_at <= timezone.now()
    event = Event.objects.latest("pk")
    assert (event.actor, event.reason, event.message) == ("user:usr_1", "SpecChanged", "replicas: 3")


def test_wanting_what_is_wanted_changes_nothing(deployment: Deployment) -> None:
    want(deployment, ALICE, spec={"replicas": 1}, goal="run")
    deployment.refresh_from_db()
    assert (deployment.generation, Event.objects.count()) == (1, 1)


def test_an_older_generation_is_refused(deployment: Deployment) -> None:
    want(deployment, ALICE, spec={"replicas": 2})
    with pytest.raises(Outdated):
        want(deployment, ALICE, spec={"replicas": 3}, if_generation=1)


def test_nothing_comes_back_from_delete(deployment: Deployment) -> None:
    want(deployment, ALICE, goal="delete")
    for change in ({"goal": "run"}, {"goal": "stop"}, {"spec": {"replicas": 4}}):
        with pytest.raises(Deleting):
            want(deployment, ALICE, **change)
    assert want(deployment, ALICE, goal="delete").generation == 2


def test_a_service_may_start_again(deployment: Deployment) -> None:
    want(deployment, ALICE, goal="stop")
    assert want(deployment, ALICE, goal="run").goal == "run"


def test_what_ended_does_not_stop(workspace: Workspace) -> None:
    from apps.registry.models import Dataset, DatasetVersion

    dataset = Dataset.objects.create(workspace=workspace, name="d")
    version = create(DatasetVersion(workspace=workspace, dataset=dataset, number=1, phase="ready", due_at=None), ALICE)
    with pytest.raises(NotStoppable):
        want(version, ALICE, goal="stop")


def test_only_spec_fields_can_be_wanted(deployment: Deployment) -> None:
    with pytest.raises(TypeError):
        want(deployment, ALICE, spec={"phase": "serving"})
