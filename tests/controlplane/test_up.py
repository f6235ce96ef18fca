"""`make up` serves pages, looks after what it started, and tells a second one to go away."""

import http.client
import json
import os
import signal
import stat
from contextlib import closing
from pathlib import Path

from .conftest import Installation, alive, descendants, wait_until


def test_it_serves_the_first_page(running: Installation) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
        connection.request("GET", "/accounts/login/")
        response = connection.getresponse()
        assert response.status == 200 and b"<html" in response.read()
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_it_shows_how_far_it_is_and_where_things_are(running: Installation) -> None:
    told = running.output.read_text()
    assert "[1/6] Gateway" in told and "[6/6] Worker and schedule" in told
    assert f"http://127.0.0.1:{running.port}" in told
    assert str(running.var / "credentials.json") in told


def test_credentials_and_keys_are_for_their_owner_only(running: Installation) -> None:
    for name in ("credentials.json", "keys.json"):
        assert stat.S_IMODE((running.var / name).stat().st_mode) == 0o600
    assert set(json.loads((running.var / "credentials.json").read_text())) >= {"password", "api_key"}


def test_the_database_can_be_reached_by_its_owner_only(running: Installation) -> None:
    sockets = Path(running.record()["run_directory"]) / "postgres"
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert len(os.fsencode(sockets / ".s.PGSQL.5432")) <= 107


def test_a_second_one_says_who_runs_it_and_leaves_it_alone(running: Installation) -> None:
    pids = running.pids()
    second = running.command()
    assert running.process is not None
    assert second.returncode == 1
    assert f"already running by {Path.home().owner()}" in second.stdout and str(running.process.pid) in second.stdout
    assert running.pids() == pids and all(alive(pid) for pid in pids.values())


def test_check_tells_that_all_of_it_runs(running: Installation) -> None:
    checked = running.command("--check")
    assert checked.returncode == 0, checked.stdout
    assert "web answers          yes" in checked.stdout


def test_check_names_a_misspelt_setting(running: Installation) -> None:
    checked = running.command("--check", WINDLASS_GATEWAY_PROT="81")
    assert checked.returncode == 1
    assert "WINDLASS_GATEWAY_PROT is no setting; did you mean WINDLASS_GATEWAY_PORT?" in checked.stdout


def test_no_process_of_the_control_plane_loads_torch(running: Installation) -> None:
    for name in ("web", "worker", "beat"):
        pid = running.pids()[name]
        for process in {pid, *descendants(pid)}:
            assert "libtorch" not in Path(f"/proc/{process}/maps").read_text(), name


def test_a_worker_that_is_killed_takes_its_pool_along_and_is_started_again(running: Installation) -> None:
    before = running.pids()["worker"]
    pool = descendants(before)
    os.kill(before, signal.SIGKILL)
    assert pool and wait_until(lambda: not any(alive(pid) for pid in pool))
    assert wait_until(lambda: running.pids()["worker"] != before)
    assert "worker was ended by SIGKILL; it is started again in" in running.output.read_text()
    assert wait_until(lambda: descendants(running.pids()["worker"]) != set(), 40)
