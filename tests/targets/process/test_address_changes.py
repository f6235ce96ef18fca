"""A host that comes back with another address, as a container does, has its services there."""

from __future__ import annotations

import socket

from workers.targets.process.target import ProcessTarget, stop_all


def test_services_listen_where_the_host_is_now(host):
    host.apply(host.service())
    before = host.wait("service", lambda seen: seen.state == "ready").ranks[0]
    stop_all(host.directory / "host", 1.0)
    host.target = ProcessTarget(host.directory / "host", address="127.0.0.2")
    assert host.target.recover() == ["service"]
    after = host.wait("service", lambda seen: seen.state == "ready").ranks[0]
    assert (before.address, after.address) == ("127.0.0.1", "127.0.0.2")
    socket.create_connection((after.address, after.port), timeout=5).close()


def test_a_running_service_is_left_where_it_is(host):
    host.apply(host.service())
    before = host.wait("service", lambda seen: seen.state == "ready").ranks
    host.target = ProcessTarget(host.directory / "host", address="127.0.0.2")
    host.apply(host.service())
    assert host.wait("service", lambda seen: seen.state == "ready").ranks == before
