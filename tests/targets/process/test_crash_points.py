"""A worker or a shim that dies between any two steps leaves nothing that the next attempt can't finish."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workers.targets.process import cage

WORKER = """
import sys
from pathlib import Path
from apps.placements.workload import Workload
from workers.targets.contract import Grants
from workers.targets.process.target import ProcessTarget
target = ProcessTarget(Path(sys.argv[1]), allow_uncaged=True)
workload = Workload("job", "job", ("python", "-S", "-c", sys.argv[3]), grace_seconds=5.0)
{
    "apply": lambda: target.apply(None, workload, 1, {}, Grants()),
    "stop": lambda: target.stop(None, "job", 0.2),
    "delete": lambda: target.delete(None, "job"),
}[sys.argv[2]]()
"""
SLEEPS = "import time; print('ready', flush=True); time.sleep(600)"


def die_at(host, point, act, script=SLEEPS):
    """Let a worker do something and die by SIGKILL at a crash point on the way."""
    armed = host.directory / "armed"
    armed.write_text(point)
    words = [sys.executable, "-c", WORKER, str(host.directory / "host"), act, script]
    environment = {**os.environ, "WINDLASS_CRASH_FILE": str(armed), "PYTHONPATH": str(cage.ROOT)}
    result = subprocess.run(words, env=environment, check=False, capture_output=True, timeout=30)
    assert (host.directory / "armed.fired").exists(), result.stderr
    return result.returncode


@pytest.mark.parametrize("point", ["before", "sent", "answered"])
def test_apply(host, point):
    assert die_at(host, f"process.apply.{point}", "apply") == -9
    if point == "sent":
        assert host.seen("job").state == "unknown"  # made, yet nobody watches over it; this look starts a shim
        assert host.shim("job")
    host.apply(host.job(SLEEPS))
    host.said()
    host.target.stop(None, "job", 0.2)
    host.ended()
    assert host.log().count("ready") == 1


@pytest.mark.parametrize("point", ["before", "sent", "answered"])
def test_stop(host, point):
    host.apply(host.job(SLEEPS))
    host.said()
    assert die_at(host, f"process.stop.{point}", "stop") == -9
    host.target.stop(None, "job", 0.2)
    assert host.ended().exit.reason == "killed"


@pytest.mark.parametrize("point", ["before", "sent", "answered"])
def test_delete(host, point):
    host.apply(host.job(SLEEPS))
    host.said()
    assert die_at(host, f"process.delete.{point}", "delete") == -9
    host.target.delete(None, "job")
    assert host.seen("job").state == "gone"
    assert not host.processes("job")


def test_a_shim_that_dies_as_it_starts_the_program_never_starts_it_again(host):
    die_at(host, "process.shim.start.before", "apply")
    assert host.ended().exit.reason == "killed"
    assert "0" not in host.seen("job").log_bytes or "ready" not in host.log()
