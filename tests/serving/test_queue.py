"""Slow predictions: they wait in a bounded queue, and hold up nothing else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.serving.replica import image, running, slow_model, wait_for


def test_more_than_the_queue_holds_is_429(tmp_path: Path) -> None:
    with running(tmp_path, {"WINDLASS_MAX_QUEUE": "4"}, slow_model) as replica:
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: replica.infer(image()), range(24)))
        counts = Counter(answer.status_code for answer in answers)
        assert set(counts) == {200, 429}
        assert counts[200] >= 5
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"].startswith(
            "429: 4 requests wait already, the most this replica holds. Try again"
        )
        assert replica.infer(image()).status_code == 200


def test_health_is_answered_while_the_model_works(tmp_path: Path) -> None:
    with running(tmp_path, model=slow_model) as replica:
        stop = threading.Event()
        runs = []

        def load() -> None:
            while not stop.is_set():
                began = time.monotonic()
                assert replica.infer(image()).status_code == 200
                runs.append(time.monotonic() - began)

        loads = [threading.Thread(target=load) for _ in range(3)]
        for thread in loads:
            thread.start()
        wait_for(lambda: len(runs) > 2)
        waits = []
        with httpx.Client(base_url=replica.url) as client:
            for _ in range(20):
                began = time.monotonic()
                assert client.get("/v2/health/ready").status_code == 200
                waits.append(time.monotonic() - began)
                time.sleep(0.01)
        stop.set()
        for thread in loads:
            thread.join()
        assert sorted(waits)[10] < min(runs) / 2


def test_who_left_the_queue_is_not_computed_for(tmp_path: Path) -> None:
    with running(tmp_path, model=slow_model) as replica:
        began = time.monotonic()
        replica.infer(image())
        one = time.monotonic() - began

        def leave() -> None:
            try:
                httpx.post(
                    f"{replica.url}/v2/models/digits/infer",
                    json=image(),
                    headers={"Authorization": "Bearer wl_live_test-secret"},
                    timeout=httpx.Timeout(10, read=one / 10),
                )
            except httpx.ReadTimeout:
                return

        with ThreadPoolExecutor(16) as pool:
            for _ in range(16):
                pool.submit(leave)
        wait_for(lambda: "windlass_requests_in_flight 0.0" in replica.get("/metrics").text, timeout_seconds=one * 12)
        assert 'windlass_requests_total{status="499"}' in replica.get("/metrics").text
