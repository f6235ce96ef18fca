"""A name is looked up and checked at every connection, and what was checked is what is connected to."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from workers.targets.contract import Unavailable
from workers.targets.kubernetes.access import Access
from workers.targets.kubernetes.client import Client

ACCESS = Access("https://kube.example.org:6443/base", "", token="s3cret", allowed=())


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the name means, look-up by look-up."""
    given: list[list[str]] = []

    def look_up(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in given.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return given


def asked(client: Client) -> list[httpx.Request]:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={})

    client._http = httpx.Client(transport=httpx.MockTransport(answer))
    return requests


def test_the_address_that_was_checked_is_connected_to(answers: list[list[str]]) -> None:
    client = Client(ACCESS)
    requests = asked(client)
    answers.append(["93.184.216.34"])
    client.get("/api/v1/nodes")
    assert str(requests[0].url) == "https://93.184.216.34:6443/base/api/v1/nodes"
    assert requests[0].headers["Host"] == "kube.example.org:6443"
    assert requests[0].extensions["sni_hostname"] == "kube.example.org"


@pytest.mark.parametrize("second", [["127.0.0.1"], ["169.254.169.254"], ["93.184.216.34", "10.0.0.1"]])
def test_a_name_that_leads_elsewhere_later_is_not_followed(answers: list[list[str]], second: list[str]) -> None:
    client = Client(ACCESS)
    requests = asked(client)
    answers += [["93.184.216.34"], second]
    client.get("/version")
    with pytest.raises(Unavailable, match="WINDLASS_ALLOWED_PRIVATE_CIDRS"):
        client.get("/version")
    assert len(requests) == 1


def test_credentials_are_not_shown() -> None:
    assert "s3cret" not in repr(ACCESS)
