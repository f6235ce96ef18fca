"""A few clusters under random faults of the cloud; tests/faults lives through hundreds."""

from __future__ import annotations

from typing import Any

import pytest

from apps.accounts.models import Workspace
from tests.faults.cloud_lives import served_moto, trial

SEED, COUNT = 3, 5


def test_whatever_happens_all_is_taken_back(
    workspace: Workspace, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_moto() as moto:
        told = trial(workspace, moto, settings, monkeypatch, SEED, COUNT)
    assert told.faults.total() > 10
    assert (told.wrong, told.lived) == ([], COUNT)
