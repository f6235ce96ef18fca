"""A service keeps its replicas and their ports, whatever ends them."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from tests.targets.process.conftest import ask


def ready(count):
    return lambda seen: seen.state == "ready" and seen.ready_ordinals == tuple(range(count))


def outer_pid(host, ordinal):
    """The program's process as this machine numbers it: the youngest that carries its ordinal."""
    from workers.targets.process.processes import environment_holds

    own = [pid for pid in host.processes("service") if environment_holds(pid, f"WINDLASS_ORDINAL={ordinal}")]
    return max(own)


def test_each_replica_answers_on_its_own_port(kept, host):
    host.apply(host.service(replicas=2))
    seen = host.wait("service", ready(2))
    assert [ask(rank.port)[1] for rank in seen.ranks] == [0, 1]
    assert len({rank.port for rank in seen.ranks}) == 2


def test_a_killed_replica_refuses_at_once_and_is_back_on_its_port(kept, host):
    host.apply(host.service())
    port = host.wait("service", ready(1)).ranks[0].port
    for restarts in (1, 2):
        began = time.monotonic()
        os.kill(outer_pid(host, 0), signal.SIGKILL)
        host.wait("service", lambda seen, n=restarts: ready(1)(seen) and seen.ranks[0].restarts == n)
        assert time.monotonic() - began < 1.5
        assert host.seen("service").ranks[0].port == port
        assert ask(port)[1] == 0
        time.sleep(0.1)


def test_a_port_refuses_while_its_program_is_down(kept, host):
    """The placeholder keeps the port, yet nobody waits in the queue of a program that will never answer."""
    host.apply(host.service(script="import time, sys; time.sleep(0.2); sys.exit(4)", probe=None))
    seen = host.wait("service", lambda seen: bool(seen.ranks) and seen.ranks[0].state == "backoff")
    refused = 0
    for _ in range(200):
        with socket.socket() as client:
            refused += client.connect_ex(("127.0.0.1", seen.ranks[0].port)) != 0
        time.sleep(0.002)
    assert refused
    assert "exit code 4" in seen.ranks[0].message
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", seen.ranks[0].port))


def test_scale_up_and_down(kept, host):
    host.apply(host.service(replicas=1), generation=1)
    first = host.wait("service", ready(1))
    host.apply(host.service(replicas=3), generation=2)
    three = host.wait("service", ready(3))
    assert three.generation == 2
    assert three.ranks[0] == first.ranks[0]
    host.apply(host.service(replicas=1), generation=3)
    one = host.wait("service", lambda seen: ready(1)(seen) and len(seen.ranks) == 1)
    assert one.ranks == first.ranks
    for rank in three.ranks[1:]:
        with pytest.raises(OSError):
            ask(rank.port)


def test_a_replica_drains_within_the_grace_time(host):
    script = """
import os, signal, socket, sys, time
listener = socket.socket(fileno=int(os.environ["WINDLASS_LISTEN_FD"]))
def stop(*_):
    print("draining", flush=True)
    time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(600)
"""
    host.apply(host.service(script=script, probe=None, grace_seconds=5), generation=1)
    host.wait("service", lambda seen: seen.log_bytes.get("0", 0) > 0)  # before that a SIGTERM would just end it
    host.apply(host.service(script=script, probe=None, grace_seconds=5, replicas=0), generation=2)
    host.wait("service", lambda seen: [rank.state for rank in seen.ranks] == ["draining"])
    host.wait("service", lambda seen: not seen.ranks, timeout_seconds=3)


def test_a_replica_that_answers_badly_is_unready_and_then_restarted(host):
    host.apply(host.service())
    first = host.wait("service", ready(1))
    before = ask(first.ranks[0].port)
    host.target.publish(None, "service", "broken", b"")
    seen = host.wait("service", lambda seen: seen.ranks[0].state == "running")
    assert seen.state == "running"
    assert "health check" in seen.ranks[0].message
    host.wait("service", lambda seen: seen.ranks[0].restarts == 1)
    (host.path("service") / "live" / "broken").unlink()
    host.wait("service", ready(1))
    assert before


def test_a_replica_whose_program_falls_again_and_again_waits_longer(host):
    host.apply(host.service(script="raise ValueError('no model here')", probe=None))
    seen = host.wait("service", lambda seen: bool(seen.ranks) and seen.ranks[0].restarts >= 3)
    assert "ValueError: no model here" in seen.ranks[0].message
    assert "starting again in 0.4 seconds" in host.log("service")
    assert seen.state == "running"


def test_a_stopped_service_ends(kept, host):
    host.apply(host.service(replicas=2))
    port = host.wait("service", ready(2)).ranks[0].port
    host.target.stop(None, "service", 0.5)
    seen = host.ended("service")
    assert seen.exit.reason == "killed"
    assert not host.processes("service")
    with pytest.raises(OSError):
        ask(port)


def test_each_start_finds_its_temporary_folder_empty(kept, host):
    script = """
import os, sys
folder = os.environ["TMPDIR"]
print("found", os.listdir(folder), flush=True)
os.mkdir(folder + "/left")
open(folder + "/left/over", "w")
os.chmod(folder + "/left", 0o500)
sys.exit(1)
"""
    host.apply(host.service(script=script, probe=None))
    host.wait("service", lambda seen: bool(seen.ranks) and seen.ranks[0].restarts >= 2)
    assert host.log("service").count("found []") >= 2
    assert "left" not in host.log("service")
