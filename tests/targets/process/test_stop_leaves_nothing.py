"""A stopped workload leaves no process, whatever its program did to get away."""

from __future__ import annotations

import time

import pytest

FORKS_AWAY = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(0, 3)
        time.sleep(600)
    os._exit(0)
os.wait()
print("ready", flush=True)
%s
"""
IGNORES = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)"
)
ENDS_WELL = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopping"), sys.exit(0)))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("script", [FORKS_AWAY % "time.sleep(600)", IGNORES], ids=["forks-away", "ignores-sigterm"])
def test_stop(kept, host, script):
    host.apply(host.job(script))
    host.said()
    assert host.processes("job")
    host.target.stop(None, "job", 0.3)
    seen = host.ended()
    assert seen.exit.reason == "killed"
    assert seen.exit.message == "It was stopped on request."
    assert not host.processes("job")


def test_a_program_that_ends_takes_its_orphans_along(kept, host):
    host.apply(host.job(FORKS_AWAY % ""))
    assert host.ended().exit.reason == "ok"
    assert not host.processes("job")


def test_an_orphan_that_washed_its_environment_is_found_too(uncaged, host):
    script = """
import os, subprocess, sys
subprocess.Popen(["/usr/bin/env", "-i", "/bin/sleep", "7003"], start_new_session=True, stdout=subprocess.DEVNULL)
"""
    host.apply(host.job(script))
    assert host.ended().exit.reason == "ok"
    assert not any("7003" in _command(pid) for pid in _all_processes())


def _all_processes():
    from workers.targets.process.processes import parents

    return parents()


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def test_a_program_may_end_well_within_the_grace_time(kept, host):
    host.apply(host.job(ENDS_WELL))
    host.said()
    began = time.monotonic()
    host.target.stop(None, "job", 10)
    seen = host.ended()
    assert time.monotonic() - began < 2
    assert (seen.exit.reason, seen.exit.code) == ("killed", 0)
    assert "stopping" in host.log()


def test_a_second_stop_may_be_shorter(host):
    host.apply(host.job(IGNORES))
    host.said()
    host.target.stop(None, "job", 60)
    host.target.stop(None, "job", 0)
    assert host.ended(timeout_seconds=3).exit.signal == 9


def test_stopping_what_is_not_there_is_no_error(host):
    host.target.stop(None, "nothing", 1)
    host.target.delete(None, "nothing")


def test_delete_ends_what_runs_and_removes_what_it_wrote(kept, host):
    script = """
import os, time
os.mkdir("out/a")
open("out/a/b", "w")
os.chmod("out/a", 0o500)
print("ready", flush=True)
time.sleep(600)
"""
    host.apply(host.job(script))
    host.said()
    marked = host.processes("job")
    host.target.delete(None, "job")
    assert marked
    assert host.seen("job").state == "gone"
    assert not host.path("job").exists()
    assert not host.processes("job")
    assert not list((host.directory / "host" / "trash").iterdir())
