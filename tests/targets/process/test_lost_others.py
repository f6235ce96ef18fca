"""A program that lost the others of its job did not fail by itself: its run goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from workers.targets.process.endings import Limits, ending


@pytest.mark.parametrize("status", [signal.SIGHUP, (128 + signal.SIGHUP) << 8])
def test_who_lost_the_others_counts_as_killed(status: int, tmp_path: Path) -> None:
    exit = ending(int(status), "", Limits(2**30, 2**30, None), tmp_path, lambda: ["Traceback of the network"])
    assert (exit.reason, exit.signal) == ("killed", signal.SIGHUP)
    assert exit.message == "The program lost the others of its job: a process, a node or the network."
