"""The product's stop ends its workloads; services go on at its next start."""

from __future__ import annotations

import time

from workers.targets.contract import Grants
from workers.targets.process.target import snapshot, stop_all

TRAINS = """
import signal, sys, time
def stop(*_):
    open("out/checkpoint", "w").write("step 9")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""


def test_jobs_store_their_checkpoint_and_services_come_back(kept, host):
    output, grant = host.output("checkpoint", always=True)
    host.apply(host.job(TRAINS, outputs=(output,)), grants=Grants(outputs={"checkpoint": grant}))
    host.apply(host.service())
    host.said()
    before = host.wait("service", lambda seen: seen.state == "ready")
    assert stop_all(host.directory / "host", 5.0) == []
    job, service = host.seen("job"), host.seen("service")
    assert (job.state, job.exit.reason) == ("exited", "killed")
    assert "Windlass was shut down" in job.exit.message
    assert host.content(grant) == b"step 9"
    assert service.state == "pending"
    assert not host.processes("service")
    assert host.target.recover() == ["service"]
    after = host.wait("service", lambda seen: seen.state == "ready")
    assert after.ranks[0].port == before.ranks[0].port
    assert host.seen("job").state == "exited"


def test_an_apply_also_starts_a_paused_service(host):
    host.apply(host.service())
    host.wait("service", lambda seen: seen.state == "ready")
    stop_all(host.directory / "host", 1.0)
    host.apply(host.service())
    host.wait("service", lambda seen: seen.state == "ready")


def test_a_workload_that_does_not_listen_is_killed(host):
    host.apply(
        host.job("import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)")
    )
    host.said()
    began = time.monotonic()
    stop_all(host.directory / "host", 0.3)
    assert time.monotonic() - began < 3
    assert host.seen("job").exit.signal == 9


def test_a_watcher_sees_each_change(host):
    directory = host.directory / "host"
    host.apply(host.job("import time; print('ready', flush=True); time.sleep(600)"))
    host.said()
    first = snapshot(directory)
    host.target.stop(None, "job", 0.2)
    host.ended()
    second = snapshot(directory)
    assert second["job"] > first["job"] > 0
    host.target.delete(None, "job")
    assert snapshot(directory) == {}
