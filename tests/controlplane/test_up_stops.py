"""What `make up` started ends with it, however it ends, and its data is there at the next start."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import PROJECT, Installation, alive, descendants, wait_until


@pytest.mark.timeout(600)
def test_it_stops_all_that_it_started_and_keeps_the_data(installation: Installation) -> None:
    installation.start()
    assert installation.process is not None
    credentials = (installation.var / "credentials.json").read_bytes()
    run_directory = Path(installation.record()["run_directory"])
    started = descendants(installation.process.pid)
    assert len(started) >= 6
    assert installation.stop(signal.SIGHUP) == 0
    assert not [pid for pid in started if alive(pid)]
    assert not run_directory.exists() and not (installation.var / "run.json").exists()
    for port in (installation.port, installation.gateway_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0

    # killed, it takes its children along as well, and a next start needs no hand
    installation.start()
    assert installation.process is not None
    assert (installation.var / "credentials.json").read_bytes() == credentials
    assert "password" not in installation.output.read_text(), "credentials are shown at the first start only"
    started = descendants(installation.process.pid)
    installation.stop(signal.SIGKILL)
    installation.start()
    assert not [pid for pid in started if alive(pid)]
    assert installation.stop(signal.SIGINT) == 0


def test_a_stop_while_it_starts_leaves_nothing(installation: Installation) -> None:
    installation.process = subprocess.Popen(
        [sys.executable, "-m", "controlplane.up"], cwd=PROJECT, env=installation.environment, stdout=subprocess.DEVNULL
    )
    assert wait_until(lambda: "postgres" in installation.record().get("processes", {}))
    started = descendants(installation.process.pid)
    assert installation.stop(signal.SIGINT) == 0
    assert not [pid for pid in started if alive(pid)]


@pytest.mark.parametrize("setting", ["WINDLASS_PORT", "WINDLASS_GATEWAY_PORT"])
def test_a_port_that_is_taken_names_its_setting_and_starts_nothing(installation: Installation, setting: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = installation.command(**{setting: str(port)})
    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1" in refused.stdout and f"Choose another: {setting}=" in refused.stdout
    assert not (installation.var / "postgres").exists()
