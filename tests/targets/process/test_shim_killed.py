"""A shim that is killed is followed by another, which never runs a job's program twice."""

from __future__ import annotations

import os
import signal
import time

from tests.targets.process.conftest import ask
from workers.targets.contract import Grants


def kill_shim(host, name):
    shim = host.shim(name)
    os.kill(shim, signal.SIGKILL)
    while host.shim(name) == shim:
        time.sleep(0.005)


def test_a_job_ends_as_killed_and_keeps_its_checkpoint(kept, host):
    output, grant = host.output("checkpoint", always=True)
    script = "import time; open('out/checkpoint', 'w').write('step 7'); print('ready', flush=True); time.sleep(600)"
    host.apply(host.job(script, outputs=(output,)), grants=Grants(outputs={"checkpoint": grant}))
    host.said()
    kill_shim(host, "job")
    seen = host.seen("job")
    assert seen.state in ("unknown", "running")
    seen = host.ended()
    assert seen.exit.reason == "killed"
    assert "watched over it was killed" in seen.exit.message
    assert seen.outputs["checkpoint"].size_bytes == 6
    assert host.content(grant) == b"step 7"
    assert host.log().count("ready") == 1
    assert not host.processes("job")


def test_a_service_goes_on_with_its_ports(kept, host):
    host.apply(host.service(replicas=2))
    before = host.wait("service", lambda seen: seen.state == "ready")
    kill_shim(host, "service")
    assert host.target.recover() in (["service"], [])
    after = host.wait("service", lambda seen: seen.state == "ready" and len(seen.ranks) == 2)
    assert [rank.port for rank in after.ranks] == [rank.port for rank in before.ranks]
    assert [ask(rank.port)[1] for rank in after.ranks] == [0, 1]
    assert len({rank.port for rank in after.ranks}) == 2


def test_an_apply_finds_the_dead_shim_as_well(host):
    workload = host.job("import time; print('ready', flush=True); time.sleep(600)")
    host.apply(workload)
    host.said()
    kill_shim(host, "job")
    host.apply(workload)
    assert host.ended().exit.reason == "killed"


def test_a_stop_reaches_a_workload_whose_shim_died(host):
    host.apply(host.service())
    host.wait("service", lambda seen: seen.state == "ready")
    kill_shim(host, "service")
    host.target.stop(None, "service", 0.5)
    assert "ready" not in host.path("service", "logs/0.log").read_text()
    assert host.ended("service").exit.reason == "killed"
    assert not host.processes("service")


def test_a_damaged_status_counts_as_begun(host):
    host.apply(host.job("import time; print('ready', flush=True); time.sleep(600)"))
    host.said()
    kill_shim(host, "job")
    host.path("job", "status.json").write_text('{"phase": "fet')
    assert host.seen("job").state == "unknown"
    host.target.recover()
    assert host.ended().exit.reason == "killed"


def test_a_shim_ends_when_its_directory_is_taken_away(kept, host):
    host.apply(host.job("import time; print('ready', flush=True); time.sleep(600)"))
    host.said()
    running = host.processes("job")
    os.rename(host.path("job"), host.directory / "elsewhere")
    (host.directory / "elsewhere" / "workload.json").unlink()
    deadline = time.monotonic() + 5
    while host.processes("job") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running
    assert not host.processes("job")
