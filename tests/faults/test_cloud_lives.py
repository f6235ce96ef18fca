"""Hundreds of clusters under random faults: nothing leaked, nothing doubled, nothing stuck, every ledger line closed.

`FAULT_SEED=N LIVES=M python -m pytest -s tests/faults/test_cloud_lives.py` replays a seed.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from apps.accounts.models import Workspace
from tests.faults.cloud_lives import served_moto, trial
from tests.figures import measured
from tests.spine.conftest import workspace

__all__ = ["workspace"]
SEED, COUNT = int(os.environ.get("FAULT_SEED", "1")), int(os.environ.get("LIVES", "200"))


@pytest.mark.timeout(1500)
def test_random_lives(workspace: Workspace, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with served_moto() as moto:
        told = trial(workspace, moto, settings, monkeypatch, SEED, COUNT)
    print(f"replay: FAULT_SEED={SEED} LIVES={COUNT} python -m pytest -s {__file__}", flush=True)
    for fault, count in sorted(told.faults.items()):
        measured(f"faults of the cloud: {fault}", count, "faults", "reported", True)
    measured("workers killed", told.kills.total(), "kills", "reported", True)
    measured("machines ended behind our back", told.mishaps.total(), "machines", "reported", True)
    measured("cluster lives under random faults", told.lived, "lives", f"{COUNT}", told.lived == COUNT)
    measured("resources leaked", len(told.leaked), "resources", "0", not told.leaked)
    measured("resources made twice", len(told.doubled), "resources", "0", not told.doubled)
    measured("lives stuck", len(told.stuck), "lives", "0", not told.stuck)
    measured("ledger lines left open", told.left_open, "lines", "0", not told.left_open)
    measured("attempts beyond the first", told.extra, "attempts", "reported", True)
    measured("lives took", round(told.seconds), "s", "reported", True)
    print(f"ended in: {dict(told.ends)}; killed at: {dict(told.kills)}", flush=True)
    for wrong in (*told.stuck[:20], *told.crashes[:5]):
        print(f"wrong: {wrong}", flush=True)
    assert told.wrong == []
