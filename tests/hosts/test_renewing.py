"""A certificate is renewed for the same key, by who has it, while it is valid."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from django.test import Client

from apps.clusters import joining
from apps.clusters.joining import NotLetIn, invite_host
from apps.clusters.models import Host
from apps.core.certificates import new_request, request_for
from tests.hosts.conftest import ADMIN
from tests.hosts.test_invitations import machine, secret_of

pytestmark = pytest.mark.usefixtures("open_door")


def joined() -> tuple[str, str, str]:
    """The host's id, its key and certificate."""
    key, request = new_request("x")
    answer = joining.join(secret_of(invite_host("second", ADMIN)), machine(request=request))
    return answer["host_id"], key, answer["certificate"]


def test_the_new_one_is_for_the_same_key_and_ends_later() -> None:
    host_id, key, before = joined()
    known = Host.objects.get().certificate_sha256
    after = x509.load_pem_x509_certificate(joining.renew(host_id, request_for(key, "x"))["certificate"].encode())
    old = x509.load_pem_x509_certificate(before.encode())
    assert after.public_key() == old.public_key() and after.serial_number != old.serial_number
    assert 89 <= (after.not_valid_after_utc - datetime.now(UTC)).days <= 90
    assert Host.objects.get().certificate_sha256 == known, "nothing changes at the door"


def test_another_key_is_not_certified() -> None:
    host_id, _key, _certificate = joined()
    with pytest.raises(NotLetIn, match="was removed"):
        joining.renew(host_id, new_request("x")[1])


def test_a_key_is_not_certified_for_another_host() -> None:
    _host_id, key, _certificate = joined()
    with pytest.raises(NotLetIn, match="was removed"):
        joining.renew("", request_for(key, "x"))


def test_a_forgotten_hosts_is_not_renewed() -> None:
    host_id, key, _certificate = joined()
    Host.objects.all().delete()
    with pytest.raises(NotLetIn, match="was removed"):
        joining.renew(host_id, request_for(key, "x"))


def test_the_web_server_itself_gives_nothing_to_who_has_not_come_through_the_door(client: Client) -> None:
    host_id, key, _certificate = joined()
    given = {"request": request_for(key, "x")}
    for headers in ({}, {"x-windlass-host": host_id}, {"x-windlass-host": host_id, "x-windlass-door": ""}):
        for path in ("renew", "join"):
            answer = client.post(f"/hosts/{path}", given, content_type="application/json", headers=headers)
            assert answer.status_code == 404
        assert client.get("/hosts/authority", headers=headers).status_code == 404
