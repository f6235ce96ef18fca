"""A replica's pod: it listens where it is told, learns who may call, and pushes what it answered exactly once."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from apps.placements.workload import Workload
from tests.kubernetes.conftest import PodFolder, until

SERVER = """
import os, signal, socket, sys, time
listener = socket.socket(fileno=int(os.environ["WINDLASS_LISTEN_FD"]))
metrics = open(os.environ["WINDLASS_METRICS"], "ab", 0)
def stop(*_):
    metrics.write(b"last\\n")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    metrics.write(b"asked\\n")
    body = open(os.environ["WINDLASS_LIVE"] + "/auth.json", "rb").read()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    connection.close()
"""


class ControlPlane:
    """The one address; `away` makes it answer 503, `bundle` is what it gives."""

    def __init__(self) -> None:
        self.bundle, self.away, self.pushed, self.pulls, self.unchanged = {"keys": {"a": 1}}, False, b"", 0, 0
        self.lose_answers = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tag = json.dumps(outer.bundle)
                if outer.away:
                    return self.answer(503, b"")
                outer.pulls += 1
                if self.headers.get("If-None-Match") == tag:
                    outer.unchanged += 1
                    return self.answer(304, b"")
                self.answer(200, json.dumps({"made_at": 1.0, **outer.bundle}).encode(), tag)

            def do_POST(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if outer.away:
                    return self.answer(503, b"")
                assert query["stream"] == ["metrics-tiny-7d9f8-abcde"]
                begins = int(query["offset"][0])
                if begins <= len(outer.pushed):
                    outer.pushed += content[len(outer.pushed) - begins :]
                if content and outer.lose_answers:
                    outer.lose_answers -= 1
                    return self.answer(504, b"")
                status = 409 if begins > len(outer.pushed) else 200
                self.answer(status, json.dumps({"next_offset": len(outer.pushed)}).encode())

            def answer(self, status: int, content: bytes, tag: str = "") -> None:
                self.send_response(status)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/replicas/token"


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    plane = ControlPlane()
    yield plane
    plane.server.shutdown()
    plane.server.server_close()


@pytest.fixture
def port(pod: PodFolder, control: ControlPlane) -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    pod.environment = {
        "WINDLASS_ADDRESS": "127.0.0.1",
        "WINDLASS_PORT": str(port),
        "WINDLASS_POD": "plc-abc-tiny-7d9f8-abcde",
    }
    pod.order(Workload("plc-abc", "service", ("python", "-S", "-c", SERVER), ports=("http",), grace_seconds=5.0))
    (pod.secret / "replica.json").write_text(json.dumps({"url": control.url}))
    assert pod.start("carry-in").wait(20) == 0
    return port


def ask(port: int) -> dict[str, object]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = b""
        while data := connection.recv(4096):
            received += data
    found: dict[str, object] = json.loads(received.rpartition(b"\r\n")[2])
    return found


def auth(pod: PodFolder) -> dict[str, object]:
    path = pod.work / "live" / "auth.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_it_serves_with_what_it_pulled_and_pushes_to_its_last_word(
    pod: PodFolder, control: ControlPlane, port: int
) -> None:
    companion, program = pod.start("accompany"), pod.start("run")
    until(lambda: auth(pod).get("keys") == {"a": 1})
    until(lambda: pod.work.joinpath("metrics/0.jsonl").exists())
    assert ask(port)["keys"] == {"a": 1}
    until(lambda: control.pushed == b"asked\n", 12)
    control.lose_answers = 1
    for process in (companion, program):
        process.send_signal(signal.SIGTERM)
    assert (program.wait(20), companion.wait(20)) == (143, 0)
    assert control.pushed == b"asked\nlast\n"


def test_a_stale_bundle_goes_on_for_ever_and_usage_waits(pod: PodFolder, control: ControlPlane, port: int) -> None:
    companion = pod.start("accompany")
    pod.start("run")
    until(lambda: auth(pod).get("keys") == {"a": 1})
    until(lambda: pod.work.joinpath("metrics/0.jsonl").exists())
    control.away = True
    control.bundle = {"keys": {}}
    for _ in range(3):
        assert ask(port)["keys"] == {"a": 1}, "the key that was revoked meanwhile"
        time.sleep(2)
    assert companion.poll() is None
    control.away = False
    began = time.monotonic()
    until(lambda: auth(pod).get("keys") == {}, 10)
    assert time.monotonic() - began < 10
    until(lambda: control.pushed == b"asked\n" * 3)
    assert pod.log("accompany").count("does not answer") == 1


def test_what_did_not_change_is_not_sent_again_but_known_to_be_fresh(
    pod: PodFolder, control: ControlPlane, port: int
) -> None:
    pod.start("accompany")
    until(lambda: auth(pod).get("made_at") == 1.0)
    until(lambda: control.unchanged > 0, 12)
    until(lambda: float(str(auth(pod)["made_at"])) > time.time() - 30)
    assert auth(pod)["keys"] == {"a": 1}


def test_a_companion_that_was_killed_goes_on_where_the_control_plane_says(
    pod: PodFolder, control: ControlPlane, port: int
) -> None:
    companion = pod.start("accompany")
    pod.start("run")
    until(lambda: auth(pod) != {})
    until(lambda: pod.work.joinpath("metrics/0.jsonl").exists())
    ask(port)
    until(lambda: control.pushed == b"asked\n", 12)
    companion.kill()
    companion.wait()
    ask(port)
    pod.start("accompany")
    until(lambda: control.pushed == b"asked\n" * 2, 12)
