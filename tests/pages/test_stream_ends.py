"""Whoever may hear no more, since they were disabled or removed, is sent off an open stream."""

from __future__ import annotations

import asyncio

import pytest

from apps.accounts.models import Membership, User, Workspace
from apps.core import live
from apps.core.views import _may_hear
from tests.pages.conftest import make_workspace


@pytest.fixture
def team(transactional_db: None) -> Workspace:
    return make_workspace("team")


def test_only_members_who_are_active_may_go_on(team: Workspace) -> None:
    user = User.objects.get()
    assert _may_hear(user.pk, str(team.pk))
    assert not _may_hear(user.pk, str(make_workspace("other").pk))
    user.is_active = False
    user.save()
    assert not _may_hear(user.pk, str(team.pk))
    user.is_active = True
    user.save()
    Membership.objects.filter(user=user).delete()
    assert not _may_hear(user.pk, str(team.pk))


def test_a_stream_ends_when_it_may_not_go_on(team: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(live, "KEEP_ALIVE_SECONDS", 0.01)
    answers = [True, True, False]

    async def may_hear() -> bool:
        return answers.pop(0)

    async def heard() -> list[bytes]:
        return [piece async for piece in live.stream(str(team.pk), may_hear)]

    pieces = asyncio.run(asyncio.wait_for(heard(), 10))
    assert not answers and len(pieces) == 3
