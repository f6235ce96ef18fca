"""A create call that times out: what it made is adopted, what it did not make is made once more; never two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.clusters.models import Cluster
from apps.core.actor import WINDLASS
from apps.core.wants import want
from tests.clouds import aws
from tests.providers.conftest import closed, lines
from tests.spine.conftest import World
from workers.providers import ec2
from workers.providers.contract import Resource, Unclear


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bool], list[str]]:
    """The first create call of that key times out, after it acted or before; gives the tokens of all its calls."""

    def arm(key: str, acts: bool) -> list[str]:
        real, tokens = ec2.EC2.create, list[str]()

        def create(self: Any, account: Any, resource: Resource, name: str, needs: Any, token: str) -> str:
            if resource.key != key:
                return real(self, account, resource, name, needs, token)
            tokens.append(token)
            if len(tokens) > 1:
                return real(self, account, resource, name, needs, token)
            if acts:
                real(self, account, resource, name, needs, token)
            raise Unclear("it took too long")

        monkeypatch.setattr(ec2.EC2, "create", create)
        return tokens

    return arm


def test_what_it_made_is_found_by_its_tag(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], once: Callable[[str, bool], list[str]]
) -> None:
    tokens = once("network", True)
    cluster = new_cluster()
    world.phase(cluster, "joining")
    assert [(line.attempt, line.state) for line in lines(cluster) if line.key == "network"] == [(1, "live")]
    assert len(tokens) == 1
    assert len([item for item in aws.remains(cloud) if item.startswith("vpc-")]) == 1


def test_what_it_did_not_make_is_made_again_once_that_is_sure(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], once: Callable[[str, bool], list[str]]
) -> None:
    tokens = once("network", False)
    cluster = new_cluster()
    world.phase(cluster, "joining", timeout_seconds=60)
    first, second = [line for line in lines(cluster) if line.key == "network"]
    assert (first.state, second.state, second.attempt) == ("gone", "live", 2)
    assert len(set(tokens)) == 2
    assert (first.gone_at - first.mutated_at).total_seconds() >= 9  # the grace time, scaled
    assert len([item for item in aws.remains(cloud) if item.startswith("vpc-")]) == 1


@pytest.mark.parametrize("acts", [True, False])
def test_a_machine_is_asked_for_again_with_the_same_token(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], once: Callable[[str, bool], list[str]], acts: bool
) -> None:
    tokens = once("machine-0", acts)
    cluster = new_cluster()
    world.phase(cluster, "joining")
    assert len(set(tokens)) == 1 and (acts or len(tokens) == 2)
    assert len(aws.machines(cloud)) == 1


def test_a_machine_of_which_nothing_is_known_is_taken_back_too(
    world: World, cloud: str, new_cluster: Callable[..., Cluster], once: Callable[[str, bool], list[str]]
) -> None:
    """The cluster is deleted while its call has just timed out, and has acted."""
    tokens = once("machine-0", True)
    cluster = new_cluster()
    world.until(lambda: tokens)
    want(cluster, WINDLASS, goal="delete")
    world.phase(cluster, "deleted", timeout_seconds=60)
    assert len(aws.machines(cloud)) == 1
    assert (aws.remains(cloud), closed(cluster)) == ([], True)
