"""SIGTERM: unready at once, answering for a while, then nothing in flight is lost; and the counts of it all."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import httpx

from tests.serving.replica import SECRET, Replica, bearer, image, running, slow_model, wait_for


def test_it_is_unready_at_once_and_answers_until_it_ends(tmp_path: Path) -> None:
    with running(tmp_path, {"WINDLASS_DRAIN_SECONDS": "1"}) as replica:
        replica.terminate()
        wait_for(lambda: replica.get("/v2/health/ready").status_code == 503, timeout_seconds=1)
        assert replica.get("/v2/health/live").status_code == 200
        response = replica.infer(image())
        assert (response.status_code, response.headers["connection"]) == (200, "close")
        assert replica.wait() == 0


def test_an_idle_connection_does_not_hold_it_up(tmp_path: Path) -> None:
    with running(tmp_path) as replica, socket.create_connection(replica.address) as idle:
        began = time.monotonic()
        replica.terminate()
        assert replica.wait() == 0
        assert time.monotonic() - began < 3
        assert idle.recv(100) == b""


def test_predictions_in_flight_are_answered(tmp_path: Path) -> None:
    with running(tmp_path, {"WINDLASS_DRAIN_SECONDS": "0"}, slow_model) as replica:
        call = predict_bytes()
        with contextlib.ExitStack() as clients:
            sockets = [clients.enter_context(socket.create_connection(replica.address)) for _ in range(6)]
            for client in sockets:
                client.sendall(call)
            # All six are in the replica, since it reads the connections in turn and this one comes last.
            assert replica.get("/v2/health/live").status_code == 200
            replica.terminate()
            answers = [client.makefile("rb").readline() for client in sockets]
        assert answers == [b"HTTP/1.1 200 OK\r\n"] * 6
        assert replica.wait() == 0


def predict_bytes() -> bytes:
    body = json.dumps(image()).encode()
    head = f"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Load:
    """Clients that call without a pause until a response says `connection: close`, as a gateway's pool does."""

    def __init__(self, replica: Replica, clients: int) -> None:
        self.replica = replica
        self.sent = 0
        self.answered = 0
        self.lost: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with httpx.Client(base_url=self.replica.url, headers=bearer(SECRET)) as client:
            closes = False
            while not closes:
                with self._lock:
                    self.sent += 1
                try:
                    response = client.post("/v2/models/digits/infer", json=image())
                except httpx.TransportError as error:
                    self.lost.append(repr(error))
                    return
                closes = response.headers.get("connection") == "close"
                with self._lock:
                    self.answered += response.status_code == 200


def test_under_load_nothing_is_lost_and_each_call_is_in_one_window(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        load = Load(replica, clients=8)
        wait_for(lambda: load.answered > 300)
        replica.terminate()
        load.join()
        assert replica.wait() == 0
        assert load.lost == []
        assert load.answered == load.sent
        windows = replica.windows()
        assert sum(window["requests"]["200"] for window in windows) == load.answered
        assert sum(window["keys"]["key_0"] for window in windows) == load.answered
        assert set(windows[0]["latency_ms"]) == {"p50", "p95", "p99"}
        assert 0 < windows[0]["latency_ms"]["p50"] <= windows[0]["latency_ms"]["p99"]
        assert 0 < windows[0]["window_seconds"] <= 10.5


def test_health_alone_makes_no_window(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        replica.get("/v2/health/live")
        replica.get("/metrics")
        replica.terminate()
        assert replica.wait() == 0
        assert replica.windows() == []


def test_a_torn_line_of_a_killed_replica_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "0.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"time": 1, "requ')
    with running(tmp_path) as replica:
        replica.infer(image())
        replica.terminate()
        replica.wait()
    torn, whole = path.read_text().splitlines()
    assert torn == '{"time": 1, "requ'
    assert '"requests":{"200":1}' in whole


def test_a_port_of_its_own_that_is_taken_is_named(tmp_path: Path) -> None:
    with running(tmp_path) as other:
        replica = Replica(tmp_path, {"WINDLASS_LISTEN_FD": "", "WINDLASS_PORT": str(other.address[1])})
        try:
            replica.start(wait=False)
            assert replica.wait() == 1
            assert f"Port {other.address[1]} can't be used: Address already in use." in replica.log()
        finally:
            replica.end()
