"""`make host` and `make up` know whose a data directory is, and a guest starts nothing but its own part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane import guest as guests
from controlplane import installation
from controlplane.configuration import Configuration
from controlplane.join import Guest, JoinFailed

GUEST = Guest("11111111-2222-3333-4444-555555555555", "second", "10.0.0.5:8443", "PEM", "10.0.0.6", "", "")


@pytest.fixture
def settings_there(tmp_path: Path) -> Configuration:
    return Configuration(var=tmp_path)


def test_what_it_is_is_kept(settings_there: Configuration) -> None:
    GUEST.save(settings_there.var)
    assert Guest.of(settings_there.var) == GUEST
    assert installation.host_id(settings_there) == GUEST.id
    assert guests.joined(settings_there, "", "") == GUEST


def test_another_address_is_kept(settings_there: Configuration) -> None:
    GUEST.save(settings_there.var)
    assert guests.joined(settings_there, "", "10.0.0.7").address == "10.0.0.7"
    found = Guest.of(settings_there.var)
    assert found and found.address == "10.0.0.7"
    with pytest.raises(JoinFailed, match="no IPv4 address"):
        guests.joined(settings_there, "", "second.example")


def test_without_an_invitation_it_says_how_to_get_one(settings_there: Configuration) -> None:
    with pytest.raises(JoinFailed, match="make invite-host NAME=second"):
        guests.joined(settings_there, "", "")


def test_an_installation_of_its_own_does_not_become_a_guest(settings_there: Configuration) -> None:
    (settings_there.var / "credentials.json").write_text("{}")
    with pytest.raises(JoinFailed, match="an installation of its own"):
        guests.joined(settings_there, "token", "")


def test_a_host_of_its_own_is_no_guest(settings_there: Configuration) -> None:
    (settings_there.var / "host.json").write_text(json.dumps({"id": GUEST.id, "name": "main"}))
    assert Guest.of(settings_there.var) is None


def test_make_up_does_not_start_in_a_guests_directory(
    settings_there: Configuration, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from controlplane.up import __main__ as up

    GUEST.save(settings_there.var)
    monkeypatch.setattr(up.configuration, "load", lambda: settings_there)
    monkeypatch.setattr("sys.argv", ["up"])
    assert up.main() == 1
    assert "start it with make host" in capsys.readouterr().out


def test_its_worker_takes_its_own_work_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WINDLASS_VAR", str(tmp_path))
    monkeypatch.setenv("WINDLASS_HOSTS_PORT", "8443")
    for name, value in guests.settings_of(GUEST).items():
        monkeypatch.setenv(name, value)
    there = Configuration()
    assert there.queues(GUEST.id) == [f"host:{GUEST.id}"]
    assert (there.gateway, there.storage, there.host_address) == ("none", "elsewhere", "10.0.0.6")
    assert there.hosts_port == 0, "a guest has no door"
    assert there.parts_address == f"http://127.0.0.1:{there.port}", "the passage"
    assert Configuration(storage="").queues("x") == ["reconcile", "host:x"]
