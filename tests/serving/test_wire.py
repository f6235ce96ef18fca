"""HTTP as it should not be, and as few clients speak it: never a 5xx, never a mix-up of answers."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.serving.replica import SECRET, Replica, bundle, image, running, slow_model, wait_for

INFER = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + SECRET.encode() + b"\r\n"


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    with running(tmp_path_factory.mktemp("wire"), {"WINDLASS_MAX_BODY_BYTES": "100000"}) as replica:
        yield replica


def spoken(replica: Replica, *parts: bytes, pause_seconds: float = 0.0) -> bytes:
    """All that comes back until the server closes, or nothing comes for a second."""
    with socket.create_connection(replica.address) as client:
        client.settimeout(1)
        for part in parts:
            client.sendall(part)
            time.sleep(pause_seconds)
        received = b""
        try:
            while chunk := client.recv(65536):
                received += chunk
        except TimeoutError:
            pass
        return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def predict(body: bytes, head: bytes = INFER) -> bytes:
    return head + b"content-length: %d\r\n\r\n%s" % (len(body), body)


def test_calls_that_are_sent_ahead_are_answered_in_order(replica: Replica) -> None:
    bodies = [json.dumps({**image(), "id": f"call-{number}"}).encode() for number in range(20)]
    received = spoken(replica, b"".join(predict(body) for body in bodies))
    assert re.findall(rb'"id":"call-(\d+)"', received) == [b"%d" % number for number in range(20)]


def test_slow_calls_that_are_sent_ahead_are_answered_in_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("slow"), model=lambda path: slow_model(path, size=300)) as replica:
        bodies = [json.dumps({**image(), "id": f"call-{number}"}).encode() for number in range(5)]
        received = spoken(replica, b"".join(predict(body) for body in bodies) + b"garbage\r\n\r\n")
        assert re.findall(rb'"id":"call-(\d+)"', received) == [b"%d" % number for number in range(5)]
        assert statuses(received) == [200] * 5 + [400]


def test_a_body_may_come_in_pieces_and_in_chunks(replica: Replica) -> None:
    whole = predict(json.dumps(image()).encode())
    assert statuses(spoken(replica, *[whole[at : at + 37] for at in range(0, len(whole), 37)])) == [200]
    body = json.dumps(image()).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[at : at + 50]), body[at : at + 50]) for at in range(0, len(body), 50))
    assert statuses(spoken(replica, INFER + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")) == [200]


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(replica: Replica) -> None:
    body = json.dumps(image()).encode()
    head = INFER + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert statuses(spoken(replica, head, body, pause_seconds=0.1)) == [100, 200]
    refused = head.replace(SECRET.encode(), b"unknown")
    assert statuses(spoken(replica, refused, pause_seconds=0.1)) == [401]


def test_head_has_no_body_and_the_connection_goes_on(replica: Replica) -> None:
    head = b"HEAD /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
    received = spoken(replica, head + head.replace(b"HEAD", b"GET"))
    assert statuses(received) == [200, 200]
    assert received.count(b'{"live":true}') == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_413(replica: Replica, announced: bool) -> None:
    body = b"x" * 150_000
    if announced:
        received = spoken(replica, predict(body))
    else:
        received = spoken(replica, INFER + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s" % (len(body), body))
    assert statuses(received) == [413]
    assert b"The body is larger than 100,000 bytes, the most this replica takes. Send fewer items." in received
    assert b"connection: close" in received


def test_bodies_that_are_too_much_together_are_429(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("buffered"), {"WINDLASS_MAX_BUFFERED_BYTES": "50000"}) as replica:
        with socket.create_connection(replica.address) as first:
            first.sendall(INFER + b"content-length: 60000\r\n\r\n" + b"x" * 45_000)
            time.sleep(0.2)
            received = spoken(replica, predict(b"x" * 20_000))
            assert statuses(received) == [429]
            assert b"the requests that wait already hold 50000 bytes" in received
        wait_for(lambda: statuses(spoken(replica, predict(b"x" * 20_000))) == [400])


def test_an_unknown_key_is_401_whatever_else_is_wrong(replica: Replica) -> None:
    head = INFER.replace(SECRET.encode(), b"unknown")
    assert statuses(spoken(replica, predict(b"x" * 150_000, head))) == [401]
    assert statuses(spoken(replica, predict(b"{", head))) == [401]


def test_endless_headers_are_431(replica: Replica) -> None:
    filler = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(100))
    assert statuses(spoken(replica, INFER, *[filler] * 5, pause_seconds=0.01)) == [431]


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        INFER + b"content-length: -1\r\n\r\n",
        INFER + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        INFER + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        INFER + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        INFER + b"bad header\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"GET /%ff%00\xff HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + SECRET.encode() + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_no_server_error(replica: Replica, head: bytes) -> None:
    received = spoken(replica, head)
    assert received == b"" or statuses(received)[0] < 500
    assert replica.infer(image()).status_code == 200


def test_no_body_makes_a_server_error(replica: Replica) -> None:
    chooser = random.Random(8)
    good = json.dumps({**image(), "id": "a", "outputs": [{"name": "logits"}], "parameters": {}})
    values = ["null", "-1", "1e999", "[]", "{}", '"\\ud800"', "[[[]]]", "9" * 30, "true", "[" * 2000]
    seen = set()
    for _ in range(400):
        text = good
        for _ in range(chooser.randint(1, 3)):
            at = chooser.randrange(len(text))
            match chooser.randrange(4):
                case 0:
                    text = text[:at] + text[at + chooser.randint(1, 20) :]
                case 1:
                    text = text[:at] + chooser.choice(values) + text[at:]
                case 2:
                    tokens = list(re.finditer(r'"[^"]*"|[\d.]+', text))
                    token = chooser.choice(tokens)
                    text = text[: token.start()] + chooser.choice(values) + text[token.end() :]
                case _:
                    text = text[:at] + chr(chooser.randrange(1, 0x2FF)) + text[at + 1 :]
        received = spoken(replica, predict(text.encode(), INFER + b"connection: close\r\n"))
        status = statuses(received)
        assert len(status) == 1 and status[0] in (200, 400), (text, received)
        seen.add(status[0])
    assert seen == {200, 400}


def test_the_bundle_is_still_the_one(replica: Replica) -> None:
    replica.publish(bundle())
    assert replica.infer(image()).status_code == 200
    assert "Traceback" not in replica.log()
