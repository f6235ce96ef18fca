"""A small world: one host whose reconcilers run in the test's own thread, so that each step can be watched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.accounts.models import Workspace
from apps.core.models import Managed
from workers import engine


class World:
    """Sweeps the queues in this thread until something is so."""

    def __init__(self, workspace: Workspace, queues: list[str]) -> None:
        self.workspace, self.queues = workspace, queues

    def beat(self) -> int:
        from workers.reconcilers import RECONCILERS

        found = [item for queue in self.queues for item in engine.due(queue)]
        for kind, row_id in found:
            engine.reconcile(kind, row_id, RECONCILERS)
        return len(found)

    def until(self, true: Callable[[], object], timeout_seconds: float = 30) -> None:
        """Raises AssertionError when it does not come true in time."""
        ends = time.monotonic() + timeout_seconds
        while not true():
            assert time.monotonic() < ends, "it did not come true in time"
            if not self.beat():
                time.sleep(0.02)

    def phase(self, row: Managed, *phases: str, timeout_seconds: float = 30) -> Managed:
        """Go on until the row is in one of `phases`; returns it fresh."""

        def there() -> bool:
            row.refresh_from_db()
            return row.phase in phases

        try:
            self.until(there, timeout_seconds)
        except AssertionError as error:
            raise AssertionError(f"{row} is {row.phase} ({row.reason}: {row.message}), not {phases}") from error
        return row


@pytest.fixture
def workspace(transactional_db: None) -> Workspace:
    return Workspace.objects.create(slug="team", name="Team")


@pytest.fixture
def world(workspace: Workspace, settings: object, tmp_path: Path) -> Iterator[World]:
    from workers import host, targets
    from workers.gateway.bootstrap import write_bootstrap
    from workers.targets.process.target import stop_all

    settings.WINDLASS_WORKLOADS_DIRECTORY = tmp_path / "workloads"  # type: ignore[attr-defined]
    settings.WINDLASS_GATEWAY_DIRECTORY = tmp_path / "gateway"  # type: ignore[attr-defined]
    settings.WINDLASS_GATEWAY_ADMIN_SOCKET = tmp_path / "admin.sock"  # type: ignore[attr-defined]
    settings.WINDLASS_HINTS = False  # type: ignore[attr-defined]
    write_bootstrap(tmp_path / "gateway", "127.0.0.1", 1, admin_socket=tmp_path / "admin.sock")
    targets.this_host.cache_clear()
    machine = host.register_host()
    yield World(workspace, ["reconcile", machine.queue])
    stop_all(tmp_path / "workloads", 1.0)
    targets.this_host.cache_clear()
