import os
import time
from pathlib import Path

import pytest

from tests.gateway.harness import Gateway, backend, route
from workers.gateway.admin import GatewayStopped
from workers.gateway.applied import SETTLE_SECONDS, applied
from workers.gateway.bootstrap import write_bootstrap
from workers.gateway.files import ENDPOINTS, LISTENERS, ROUTES, replace_file
from workers.gateway.model import Backend, Configuration
from workers.gateway.render import render, render_replicas
from workers.gateway.write import write


def test_a_version_is_applied_once_envoy_routes_by_it(gateway: Gateway) -> None:
    one, two = gateway.upstream("one"), gateway.upstream("two")
    for version in range(1, 21):
        there = (one, two)[version % 2]
        gateway.write(route(backend(f"r{version % 3}", there), version=version))
        assert gateway.versions() == {"acme/digits": version}
        assert gateway.replica() == there.name


def test_a_version_is_not_applied_while_envoy_stands_still(gateway: Gateway) -> None:
    one, two = gateway.upstream("one"), gateway.upstream("two")
    gateway.write(route(backend("r1", one)))
    os.kill(gateway.process.pid, 19)
    try:
        configuration = Configuration((route(backend("r1", two), version=2),))
        assert not write(gateway.directory, configuration, timeout_seconds=0.3)
    finally:
        os.kill(gateway.process.pid, 18)
    assert gateway.write(route(backend("r1", two), version=2))
    assert gateway.versions() == {"acme/digits": 2}
    assert gateway.replica() == "two"


def test_a_version_that_changes_nothing_is_applied_at_once(gateway: Gateway) -> None:
    one = gateway.upstream("one")
    gateway.write(route(backend("r1", one)))
    gateway.write(route(backend("r1", one), version=7))
    assert gateway.versions() == {"acme/digits": 7}


def test_deployments_have_their_own_versions_and_vanish_when_removed(gateway: Gateway) -> None:
    one, two = gateway.upstream("one"), gateway.upstream("two")
    gateway.write(route(backend("r1", one), version=3), route(backend("r1", two), version=5, deployment="other"))
    assert gateway.versions() == {"acme/digits": 3, "acme/other": 5}
    gateway.write(route(backend("r1", one), version=4))
    assert gateway.versions() == {"acme/digits": 4}
    assert gateway.get("/acme/other/v2").status_code == 404


def test_a_mirror_counts_too(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one")), mirror=backend("m", gateway.upstream("two"))))
    assert gateway.versions() == {"acme/digits": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (ROUTES, b'{"resources":[{"@type":"x"}],"version_info":"%b"}' % (b"0" * 24)),
        (ENDPOINTS, b"{nonsense"),
        (LISTENERS, b'{"resources":[{"@type":"x"}],"version_info":"%b"}' % (b"0" * 24)),
    ],
)
def test_a_bad_file_is_reported_and_changes_nothing(gateway: Gateway, name: str, content: bytes) -> None:
    one = gateway.upstream("one")
    gateway.write(route(backend("r1", one)))
    good = (gateway.directory / name).read_bytes()
    replace_file(gateway.directory / name, content)
    time.sleep(SETTLE_SECONDS + 0.5)
    found = applied(gateway.directory)
    assert found.versions == {"acme/digits": 1}
    assert len(found.errors) == 1
    assert f"has not taken {name}" in found.errors[0]
    assert gateway.replica() == "one"
    if name == LISTENERS:
        replace_file(gateway.directory / name, good)
    assert gateway.write(route(backend("r1", one), version=2))
    assert applied(gateway.directory).versions == {"acme/digits": 2}
    assert applied(gateway.directory).errors == ()


def test_routes_wait_for_endpoints_that_envoy_does_not_take(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused step holds back the steps after it, and the versions say so."""
    one, two = gateway.upstream("one"), gateway.upstream("two")
    gateway.write(route(backend("r1", one)))
    spoilt = render_replicas({}).replace(b"lb_endpoints", b"nonsense")
    monkeypatch.setattr("workers.gateway.write.render_replicas", lambda found: spoilt)
    assert not write(gateway.directory, Configuration((route(backend("r2", two), version=2),)), timeout_seconds=0.3)
    assert gateway.versions() == {"acme/digits": 1}
    assert gateway.replica() == "one"
    monkeypatch.undo()
    assert gateway.write(route(backend("r2", two), version=2))
    assert gateway.replica() == "two"


def test_a_gateway_that_does_not_run_is_said_to(directory: Path) -> None:
    write_bootstrap(directory, "127.0.0.1", 1)
    with pytest.raises(GatewayStopped, match="Start it first"):
        applied(directory)


def test_the_same_configuration_gives_the_same_bytes() -> None:
    routes = [route(Backend("r1", 1), deployment=name) for name in ("a", "b")]
    assert render(Configuration(tuple(routes))) == render(Configuration(tuple(reversed(routes))))
