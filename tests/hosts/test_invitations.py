"""An invitation is good for one host, once, for an hour, in a checkout of the same version."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from apps.accounts.models import AuditEntry
from apps.clusters import joining
from apps.clusters.joining import Invited, Machine, NotLetIn, invite_host
from apps.clusters.models import Host, HostInvitation
from apps.core.certificates import new_request
from apps.core.errors import Conflict, Invalid
from apps.core.version import source_digest
from tests.hosts.conftest import ADMIN

pytestmark = pytest.mark.usefixtures("open_door")


def secret_of(invited: Invited) -> bytes:
    padded = invited.token + "=" * (-len(invited.token) % 4)
    return base64.b64decode(json.loads(base64.urlsafe_b64decode(padded))["s"])


def machine(**changes: Any) -> Machine:
    usual = {"version": source_digest(), "address": "10.0.0.6", "cpus": 4.0, "memory_bytes": 2**33}
    return Machine(**{"request": new_request("x")[1], **usual, **changes})


def test_it_makes_one_host() -> None:
    invited = invite_host("second", ADMIN)
    answer = joining.join(secret_of(invited), machine())
    host = Host.objects.get(name="second")
    assert answer["host_id"] == str(host.pk) and len(host.certificate_sha256) == 64
    assert (answer["database_url"], answer["redis_url"]) == ("", ""), "these are behind the door"
    assert HostInvitation.objects.get().host == host
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == ["host.invite", "host.join"]


def test_its_secret_is_kept_as_a_checksum_only() -> None:
    invited = invite_host("second", ADMIN)
    row = HostInvitation.objects.values().get()
    assert secret_of(invited).hex() not in str(row) and invited.token not in str(row)
    assert invited.token not in str(list(AuditEntry.objects.values()))


def test_a_second_machine_is_refused_and_told_how_to_get_another() -> None:
    invited = invite_host("second", ADMIN)
    joining.join(secret_of(invited), machine())
    with pytest.raises(NotLetIn, match=r"was used at .* make invite-host"):
        joining.join(secret_of(invited), machine())
    assert Host.objects.count() == 1


def test_a_lost_answer_is_given_again_to_the_same_key() -> None:
    invited, same = invite_host("second", ADMIN), machine()
    first = joining.join(secret_of(invited), same)
    assert joining.join(secret_of(invited), same)["host_id"] == first["host_id"]
    assert AuditEntry.objects.filter(action="host.join").count() == 1


def test_it_ends_after_an_hour() -> None:
    invited = invite_host("second", ADMIN)
    assert timedelta(minutes=59) < invited.invitation.expires_at - timezone.now() <= timedelta(hours=1)
    HostInvitation.objects.update(expires_at=timezone.now())
    with pytest.raises(NotLetIn, match="ended at"):
        joining.join(secret_of(invited), machine())


def test_another_installations_is_not_known_here() -> None:
    with pytest.raises(NotLetIn, match="not known here"):
        joining.join(b"x" * 32, machine())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "f" * 64}, "another version"),
        ({"address": "second.example"}, "IPv4"),
        ({"cpus": float("nan")}, "processors"),
        ({"memory_bytes": 0}, "memory"),
        ({"request": "nonsense"}, "certificate request"),
    ],
)
def test_a_bad_request_does_not_use_it_up(changes: dict[str, Any], words: str) -> None:
    invited = invite_host("second", ADMIN)
    with pytest.raises(NotLetIn, match=words):
        joining.join(secret_of(invited), machine(**changes))
    assert HostInvitation.objects.get().used_at is None


def test_a_host_that_had_joined_can_join_again_and_stays_the_same() -> None:
    first = joining.join(secret_of(invite_host("second", ADMIN)), machine())
    before = Host.objects.get().certificate_sha256
    again = machine(host_id=first["host_id"])
    assert joining.join(secret_of(invite_host("second", ADMIN)), again)["host_id"] == first["host_id"]
    assert Host.objects.get().certificate_sha256 != before


def test_a_machine_does_not_become_another_host_with_the_same_directory() -> None:
    first = joining.join(secret_of(invite_host("second", ADMIN)), machine())
    with pytest.raises(NotLetIn, match="another host than “third”"):
        joining.join(secret_of(invite_host("third", ADMIN)), machine(host_id=first["host_id"]))


def test_the_name_of_a_host_beside_the_database_is_taken() -> None:
    Host.objects.create(name="main", cpus=1, memory_bytes=1)
    with pytest.raises(Invalid, match="no guest"):
        invite_host("main", ADMIN)


def test_services_that_nobody_else_reaches_are_told_of(settings: Any) -> None:
    settings.WINDLASS_DATABASE_URL = "postgresql://windlass:x@localhost/windlass"
    with pytest.raises(NotLetIn, match="DATABASE_URL"):
        joining.join(secret_of(invite_host("second", ADMIN)), machine())
    settings.WINDLASS_DATABASE_URL = "postgresql://windlass:x@db.example.org/windlass"
    answer = joining.join(secret_of(invite_host("second", ADMIN)), machine())
    assert answer["database_url"] == settings.WINDLASS_DATABASE_URL


def test_without_a_door_nobody_is_invited(settings: Any) -> None:
    (settings.WINDLASS_DOOR_DIRECTORY / "door.json").unlink()
    with pytest.raises(Conflict, match="WINDLASS_HOSTS_PORT=8443"):
        invite_host("second", ADMIN)
    with pytest.raises(CommandError, match="WINDLASS_HOSTS_PORT=8443"):
        call_command("invite_host", "second")


def test_the_command_prints_the_line_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("invite_host", "second")
    said = capsys.readouterr()
    assert "WINDLASS_HOST_ADDRESS=" in said.err, "a door at the loopback is told of"
    printed = said.out.splitlines()
    assert len(printed) == 1 and printed[0].startswith("make host JOIN=ey")
