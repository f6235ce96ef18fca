"""A real door on the loopback: who has joined passes, who has not does not, and each refusal says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
from django.db import connection

from apps.clusters import joining_views
from apps.clusters.models import Host
from apps.core import certificates
from apps.core.certificates import new_request
from controlplane import guest as guests
from controlplane import join
from controlplane.configuration import Configuration
from controlplane.join import Guest, JoinFailed, Token
from tests.hosts.conftest import Door, Running, free_port
from workers.door.admit import write_door

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def entered(door: Door, guest: Guest, name: str = "second") -> None:
    """Let in, which takes a moment: Envoy watches its file."""
    ends = time.monotonic() + 10
    while True:
        try:
            return join.enter(door.folder / name, guest)
        except JoinFailed:
            assert time.monotonic() < ends
            time.sleep(0.1)


def refused(door: Door, guest: Guest) -> str:
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        try:
            join.enter(door.folder / "second", guest)
        except JoinFailed as error:
            return str(error)
        time.sleep(0.1)
    raise AssertionError("it was let in")


@pytest.fixture
def passage(living_door: Door, running: Running) -> Iterator[tuple[Door, Guest, Configuration]]:
    guest = living_door.join()
    short = Path(f"/tmp/windlass-test-{os.getpid()}")
    short.mkdir(mode=0o700, exist_ok=True)
    there = Configuration(var=living_door.folder / "second", run=short, port=free_port(), storage="elsewhere")
    running.start(guests.passage_of(there, guest))
    entered(living_door, guest)
    yield living_door, guest, there
    shutil.rmtree(short)


def query(there: Configuration) -> object:
    name = connection.settings_dict["NAME"]
    with psycopg.connect(
        host=str(there.run_directory / "postgres"), user="postgres", dbname=name, connect_timeout=5
    ) as own:
        found = own.execute("SELECT count(*) FROM clusters_host").fetchone()
    assert found
    return found[0]


def test_who_joined_reaches_the_database_and_parts_and_nothing_else(
    passage: tuple[Door, Guest, Configuration],
) -> None:
    _door, _guest, there = passage
    assert query(there) == Host.objects.count() == 1
    web = f"http://127.0.0.1:{there.port}"
    assert httpx.get(f"{web}/parts/none/0").status_code == 403, "the web server's own answer"
    forged = {"x-windlass-host": "another"}
    refusal = httpx.post(f"{web}/hosts/renew", json={"request": new_request("x")[1]}, headers=forged)
    assert (refusal.status_code, "No host with this key" in refusal.text) == (403, True)
    for path in ("/", "/admin/", "/api/v1/", "/parts/../admin/", "/parts/%2e%2e/admin/", "/hosts/join"):
        assert httpx.get(f"{web}{path}").status_code in (400, 404), path


def test_a_forgotten_host_is_shut_out_at_once_also_from_open_connections(
    passage: tuple[Door, Guest, Configuration],
) -> None:
    door, guest, there = passage
    name = connection.settings_dict["NAME"]
    own = psycopg.connect(host=str(there.run_directory / "postgres"), user="postgres", dbname=name, autocommit=True)
    assert own.execute("SELECT 1").fetchone() == (1,)
    Host.objects.all().delete()
    assert write_door() is True
    assert "was removed" in refused(door, guest)
    with pytest.raises(psycopg.OperationalError):
        query(there)
    ends = time.monotonic() + 15
    with pytest.raises(psycopg.OperationalError):
        while time.monotonic() < ends:
            own.execute("SELECT 1")
            time.sleep(0.2)


def test_a_host_does_not_pass_at_anothers_name(living_door: Door) -> None:
    first, second = living_door.join("first"), living_door.join("second")
    entered(living_door, second)
    mixed = Guest(**{**second.__dict__, "id": first.id})
    assert "does not let this host" in refused(living_door, mixed)


def test_a_key_that_nobody_certified_does_not_pass(living_door: Door) -> None:
    guest = living_door.join()
    entered(living_door, guest)
    key, request = new_request("x")
    foreign = certificates.certify(certificates.make_authority("Windlass hosts"), request, "x", days=1)
    join.keep_certificate(living_door.folder / "second", foreign, key)
    assert "does not let this host" in refused(living_door, guest)


def test_code_of_another_version_finds_no_way_in(living_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = living_door.join()
    entered(living_door, guest)
    monkeypatch.setattr(join, "source_digest", lambda: "f" * 64)
    with pytest.raises(OSError):
        join.renew(living_door.folder / "second", guest)


def test_joining_needs_no_certificate_and_gives_nothing_but_joining(living_door: Door) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    door = f"127.0.0.1:{living_door.settled.hosts_port}"
    assert join.ask(door, join.JOIN, context, "GET", "/hosts/authority")[0] == 200
    for method, path in (("GET", "/"), ("GET", "/hosts/join"), ("POST", "/hosts/renew"), ("GET", "/parts/none/0")):
        assert join.ask(door, join.JOIN, context, method, path)[0] == 404, path
    large = {"secret": "x" * 100_000}
    assert join.ask(door, join.JOIN, context, "POST", "/hosts/join", large)[0] == 413


def test_a_plain_connection_is_ended(living_door: Door) -> None:
    with socket.create_connection(("127.0.0.1", living_door.settled.hosts_port), timeout=10) as plain:
        plain.sendall(b"GET /hosts/authority HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""
    assert answer == b""


def test_somebody_else_at_the_address_is_told_nothing(living_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    token = living_door.token()
    said: list[str] = []
    monkeypatch.setattr(join, "_sent", lambda *_: said.append("told"))
    with pytest.raises(JoinFailed, match="is not the installation that made this invitation"):
        join.join(living_door.folder, Token(token.door, "0" * 64, token.secret), "", 1.0, 2**30)
    assert said == []


def test_a_closed_door_is_told_with_what_to_look_at(tmp_path: Path) -> None:
    token = Token(f"127.0.0.1:{free_port()}", "0" * 64, "")
    with pytest.raises(JoinFailed, match=r"does not answer .*WINDLASS_HOSTS_PORT=.*firewall") as failed:
        join.join(tmp_path, token, "", 1.0, 2**30)
    assert failed.value.passing, "a host that has joined waits for it"
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_is_off_is_told(living_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    token = living_door.token()
    monkeypatch.setattr(joining_views, "time", SimpleNamespace(time=lambda: time.time() + 3600))
    with pytest.raises(JoinFailed, match="60 minutes behind"):
        join.join(living_door.folder, token, "", 1.0, 2**30)


def test_another_version_is_told(living_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    token = living_door.token()
    monkeypatch.setattr(join, "source_digest", lambda: "f" * 64)
    with pytest.raises(JoinFailed, match="another version"):
        join.join(living_door.folder, token, "", 1.0, 2**30)


def test_a_used_invitation_is_refused_in_words(living_door: Door) -> None:
    token = living_door.token()
    join.join(living_door.folder, token, "", 1.0, 2**30)
    other: Any = living_door.folder / "other"
    other.mkdir()
    with pytest.raises(JoinFailed, match="was used at"):
        join.join(other, token, "", 1.0, 2**30)
    assert list(other.iterdir()) == []


def test_a_certificate_near_its_end_is_renewed_while_the_passage_runs(
    passage: tuple[Door, Guest, Configuration],
) -> None:
    from apps.clusters import joining

    door, guest, there = passage
    var = door.folder / "second"
    certificate, key = join._kept(var)
    assert join.renew_if_due(var, guest) is False
    short = certificates.certify(joining.authority(), certificates.request_for(key, "x"), guest.id, days=5)
    join.keep_certificate(var, short, key)
    assert join.renew_if_due(var, guest) is True
    assert join._kept(var)[0] not in (short, certificate)
    time.sleep(0.5)
    assert query(there) == 1


def test_one_that_has_ended_does_not_pass(living_door: Door) -> None:
    from apps.clusters import joining

    guest = living_door.join()
    entered(living_door, guest)
    var = living_door.folder / "second"
    key = join._kept(var)[1]
    ended = certificates.certify(joining.authority(), certificates.request_for(key, "x"), guest.id, days=-0.001)
    join.keep_certificate(var, ended, key)
    assert "its certificate has ended" in refused(living_door, guest)


def test_what_is_kept_is_private(living_door: Door) -> None:
    living_door.join()
    files = [path for path in (living_door.folder / "second").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"host.json", "keys.json", "host.pem", "identity.json"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
