"""How soon things happen, in an installation of its own: `python -m benchmarks.latency [--runs 50]`.

From the POST of a training run to its program being started (the whole way: row, hint, reservation, placement, shim,
its script fetched, bubblewrap), with each hop; and from a row's commit to the event in an open page's stream.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.faults.product import Product, until

SCRIPT = b"import time\ntime.sleep(60)\n"
START_GOAL_MS, EVENT_GOAL_MS = 250.0, 100.0


def started(product: Product, known: set[str]) -> dict[str, str]:
    """When what happened to the new workload, as its shim says."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for name in set(product.workloads()) - known:
            try:
                status = json.loads((product.var / "workloads" / "workloads" / name / "status.json").read_text())
            except (OSError, ValueError):
                continue
            if "started" in status["observed"]["times"]:
                times: dict[str, str] = status["observed"]["times"]
                return times
        time.sleep(0.005)
    raise SystemExit(f"No program was started within 30 s. {product.api('GET', 'training-runs')['items'][0]}")


def upload(product: Product, content: bytes) -> str:
    url = f"http://127.0.0.1:{product.port}/api/v1/workspaces/default/blobs"
    answer = httpx.put(url, content=content, headers={"authorization": f"Bearer {product.key}"}, trust_env=False)
    return str(answer.raise_for_status().json()["id"])


def stamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def start_runs(product: Product, runs: int) -> dict[str, list[float]]:
    """Milliseconds from the POST's first byte to each hop, run by run."""
    script = upload(product, SCRIPT)
    hops: dict[str, list[float]] = {}
    for _ in range(runs):
        known = set(product.workloads())
        begun = time.time()
        run = product.api(
            "POST", "training-runs", {"model": "latency", "script": script, "memory_bytes_per_process": 2**28}
        )
        answered = time.time()
        times = started(product, known)
        placement = product.api("GET", "placements", owner=run["id"])["items"][0]
        made = stamp(placement["created_at"])
        moments = {"answered": answered, "placed": made, **{event: stamp(at) for event, at in times.items()}}
        for hop, moment in moments.items():
            hops.setdefault(hop, []).append(1000 * (moment - begun))
        cancel(product, f"training-runs/{run['id']}")
    return hops


def cancel(product: Product, path: str) -> None:
    """And wait for the end, so that no run stands in the next one's way."""
    product.api("POST", f"{path}/cancel")
    until(lambda: product.api("GET", path)["phase"] == "cancelled", 60, f"{path} is cancelled")


def changes(product: Product, count: int) -> list[float]:
    """Milliseconds from a row's commit to its event in a page's stream."""
    for name, value in product.environment.items():
        os.environ[name] = value
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"
    import django

    django.setup()
    from django.db import transaction

    from apps.core.wants import notify, rows
    from apps.registry.models import DatasetVersion

    heard: dict[int, float] = {}
    open_ = threading.Event()
    link = json.loads((product.var / "credentials.json").read_text())["sign_in_link"]

    def listen() -> None:
        with httpx.Client(follow_redirects=True, trust_env=False, timeout=30) as page:
            page.get(link)
            page.post(link, headers={"x-csrftoken": page.cookies.get("windlass-csrf", ""), "referer": link})
            with page.stream("GET", f"http://127.0.0.1:{product.port}/w/default/stream") as stream:
                if stream.status_code != 200 or not stream.headers["content-type"].startswith("text/event-stream"):
                    raise SystemExit(f"The stream answered {stream.status_code}.")
                for line in stream.iter_lines():
                    open_.set()
                    if line.startswith("data: {"):
                        message = json.loads(line.removeprefix("data: "))
                        heard[int(message["version"])] = time.time()

    def listen_to_the_end() -> None:
        with contextlib.suppress(httpx.TransportError):  # the product stops
            listen()

    threading.Thread(target=listen_to_the_end, daemon=True).start()
    if not open_.wait(30):
        raise SystemExit("The stream did not open.")
    time.sleep(1)
    row = DatasetVersion.objects.get()
    took = []
    for number in range(1_000_000, 1_000_000 + count):
        with transaction.atomic():
            rows(DatasetVersion).filter(pk=row.pk).update(version=number)
            row.version = number
            notify(row)
            begun = time.time()
        deadline = begun + 10
        while number not in heard and time.time() < deadline:
            time.sleep(0.002)
        took.append(1000 * (heard[number] - begun))
    return took


def tell(figure: str, values: list[float], goal_ms: float | None) -> bool:
    p50, p95 = statistics.median(values), sorted(values)[int(0.95 * (len(values) - 1))]
    holds = goal_ms is None or p50 < goal_ms
    goal = f"p50 under {goal_ms:.0f}" if goal_ms else "reported"
    line: dict[str, Any] = {"figure": figure, "value": round(p50, 1), "unit": "ms", "goal": goal, "holds": holds}
    print(json.dumps({**line, "p95": round(p95, 1), "count": len(values)}), flush=True)
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wl-"))
    product = Product(folder)
    try:
        product.up()
        until(
            lambda: product.api("GET", "dataset-versions")["items"][0]["phase"] == "ready", 60, "the example is ready"
        )
        hops = start_runs(product, options.runs)
        for hop in sorted(set(hops) - {"started"}, key=lambda hop: statistics.median(hops[hop])):
            tell(f"POST of a training run to {hop}", hops[hop], None)
        good = tell("POST of a training run to its program being started", hops["started"], START_GOAL_MS)
        good &= tell("row change to stream event", changes(product, options.runs), EVENT_GOAL_MS)
    finally:
        product.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
