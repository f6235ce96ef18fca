import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.harness import Gateway, backend, route
from workers.gateway.applied import applied
from workers.gateway.bootstrap import envoy_command, write_bootstrap
from workers.gateway.model import Route


def test_after_a_restart_envoy_serves_what_was_last_written(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one")), version=4))
    gateway.kill()
    write_bootstrap(gateway.directory, "127.0.0.1", gateway.port)
    gateway.start()
    assert gateway.replica() == "one"
    assert gateway.versions() == {"acme/digits": 4}


def test_what_is_written_while_envoy_is_down_is_there_when_it_starts(gateway: Gateway) -> None:
    one, two = gateway.upstream("one"), gateway.upstream("two")
    gateway.write(route(backend("r1", one)))
    gateway.kill()
    assert gateway.write(route(backend("r2", two), version=2))
    gateway.start()
    assert gateway.replica() == "two"
    assert gateway.versions() == {"acme/digits": 2}


def test_two_gateways_have_nothing_in_common_and_no_port(gateway: Gateway, tmp_path: Path) -> None:
    bootstrap = write_bootstrap(gateway.directory / "second", "127.0.0.1", gateway.port)
    second = subprocess.Popen(envoy_command(bootstrap), stderr=subprocess.PIPE, text=True)
    try:
        assert second.stderr is not None
        for line in second.stderr:
            if "Address already in use" in line:
                break
        else:
            pytest.fail("a port was shared")
        assert gateway.get("/healthz").status_code == 200
    finally:
        second.kill()
        second.communicate()


def test_only_the_owner_can_read_the_directory_and_the_admin_socket(gateway: Gateway) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(gateway.directory) == 0o700
    assert mode(gateway.directory / "admin.sock") == 0o600
    assert mode(gateway.directory / "routes.json") == 0o600


def test_a_socket_path_that_is_too_long_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="107"):
        write_bootstrap(tmp_path / ("x" * 120), "127.0.0.1", 1)
    short = Path(f"/tmp/gw-{os.getpid()}.d/a.sock")
    try:
        write_bootstrap(tmp_path / ("x" * 120), "127.0.0.1", 1, admin_socket=short)
        assert stat.S_IMODE(short.parent.stat().st_mode) == 0o700
    finally:
        short.parent.rmdir()


def test_envoy_bin_replaces_the_one_in_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENVOY_BIN", "/opt/envoy")
    assert envoy_command(tmp_path)[0] == "/opt/envoy"


WRITER = """
import sys
from pathlib import Path
from workers.gateway.model import Backend, Configuration, Endpoint, Route
from workers.gateway.write import write
port, version = int(sys.argv[2]), int(sys.argv[3])
backend = Backend(f"r{version}", 100, (Endpoint("127.0.0.1", port),))
write(Path(sys.argv[1]), Configuration((Route("acme", "digits", version, (backend,)),)))
"""


def _points(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith("gateway.write")]


def test_a_writer_killed_between_any_two_steps_is_continued(gateway: Gateway, tmp_path: Path) -> None:
    replicas = [gateway.upstream("even"), gateway.upstream("odd")]

    def writer(version: int, **environment: str) -> int:
        command = [sys.executable, "-c", WRITER, str(gateway.directory)]
        command += [str(replicas[version % 2].endpoint.port), str(version)]
        return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode

    log, armed = tmp_path / "log", tmp_path / "armed"
    assert writer(1) == 0
    assert writer(2, WINDLASS_CRASH_LOG=str(log)) == 0
    walk = [(name, _points(log)[:number].count(name)) for number, name in enumerate(_points(log))]
    assert len(walk) >= 8
    version = 2
    for name, passes in walk:
        version += 1
        armed.write_text(f"{name}\n{passes}")
        assert writer(version, WINDLASS_CRASH_FILE=str(armed)) == -signal.SIGKILL, name
        reported = gateway.versions()["acme/digits"]
        assert reported in (version - 1, version), name
        assert gateway.replica() == replicas[version % 2].name or reported < version, name
        replica = replicas[version % 2]
        assert gateway.write(Route("acme", "digits", version, (backend(f"r{version}", replica),))), name
        assert gateway.replica() == replica.name
        assert applied(gateway.directory).versions == {"acme/digits": version}
