"""Usage: each request is counted once, however often windows are put together."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db.models import Sum
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from apps.deployments.models import Deployment, UsageWindow
from apps.deployments.services import create_deployment, roll_up_usage
from tests.api.conftest import Caller
from tests.api.rows import export

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployment(workspace: Workspace) -> Deployment:
    return create_deployment(workspace, WINDLASS, name="digits", export=export(workspace))


def window(deployment: Deployment, at: datetime, requests: int = 10, **fields: Any) -> UsageWindow:
    return UsageWindow.objects.create(
        **{
            "deployment": deployment,
            "revision": 1,
            "replica": "r1-a-0",
            "starts_at": at,
            "seconds": 10,
            "requests": requests,
            "errors": 1,
            "statuses": {"200": requests - 1, "503": 1},
            "keys": {"key_a": requests},
            "latency_ms": {"p50": 2.0, "p99": float(requests)},
            **fields,
        }
    )


def total() -> int:
    return int(UsageWindow.objects.aggregate(Sum("requests"))["requests__sum"])


def test_windows_become_hours_and_hours_become_days(deployment: Deployment) -> None:
    now = timezone.now()
    for minutes in range(0, 60 * 24 * 4, 7):
        window(deployment, now - timedelta(minutes=minutes))
    before = total()
    roll_up_usage()
    assert total() == before
    fine = UsageWindow.objects.filter(seconds=10)
    assert fine.exists() and all(row.starts_at > now - timedelta(hours=2, minutes=1) for row in fine)
    hours = list(UsageWindow.objects.filter(seconds=3600))
    assert hours and all(row.starts_at.minute == row.starts_at.second == 0 for row in hours)
    assert UsageWindow.objects.filter(seconds=86_400).count() >= 2
    rows = UsageWindow.objects.count()
    assert roll_up_usage() == 0 and UsageWindow.objects.count() == rows


def test_sums_are_exact_and_latency_is_weighted(deployment: Deployment) -> None:
    hour = (timezone.now() - timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
    window(deployment, hour, 10)
    window(deployment, hour + timedelta(minutes=59), 30, replica="r1-a-1", latency_ms={"p50": 4.0})
    window(deployment, hour, 5, revision=2)
    roll_up_usage()
    one = UsageWindow.objects.get(revision=1)
    assert (one.requests, one.errors, one.statuses, one.keys) == (40, 2, {"200": 38, "503": 2}, {"key_a": 40})
    assert one.latency_ms == {"p50": 3.5, "p99": 10.0}
    assert UsageWindow.objects.get(revision=2).requests == 5


def test_a_window_that_comes_late_is_added_once(deployment: Deployment) -> None:
    hour = (timezone.now() - timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
    window(deployment, hour, 10)
    roll_up_usage()
    window(deployment, hour + timedelta(minutes=3), 7)
    roll_up_usage()
    assert UsageWindow.objects.get().requests == 17


def test_a_failure_in_between_loses_and_doubles_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    window(deployment, timezone.now() - timedelta(hours=5), 10)

    def broken(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("apps.deployments.services._add_up", broken)
        with pytest.raises(OSError, match="killed"):
            roll_up_usage()
    assert total() == 10
    roll_up_usage()
    assert total() == 10


def test_the_api_shows_them_by_bucket(viewer: Caller, deployment: Deployment) -> None:
    now = timezone.now()
    for minutes in (1, 2, 50):
        window(deployment, now - timedelta(minutes=minutes))
    path = f"deployments/{deployment.typed_id}/usage"
    rows = viewer.get(path).json()
    assert sum(row["requests"] for row in rows) == 30 and len(rows) >= 2
    assert sum(row["requests"] for row in viewer.get(f"{path}?bucket=day").json()) == 30
    assert viewer.get(f"{path}?revision=2").json() == []
    since = (now - timedelta(minutes=10)).isoformat()
    assert sum(row["requests"] for row in viewer.get(f"{path}?since={since}").json()) == 20
    assert viewer.get(f"{path}?bucket=week").status_code == 422
    assert viewer.get(f"{path}?since=yesterday").status_code == 422
