"""Serving keeps its promises: 200 predictions a second through every change and every death, each answer counted."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.product import Load, Product, until
from tests.figures import measured, missed
from workers.targets.process.target import stop_all

RATE = 200
SECONDS = float(os.environ.get("SERVING_SECONDS", "60"))  # shorter while one works on it
KEY_SECONDS = 10.0
GATEWAY_SECONDS = 5.0
pytestmark = pytest.mark.timeout(300)


def tell_load(what: str, load: Load) -> None:
    answers = load.answers
    measured(f"{what}: requests", answers.sent, "requests", f"{RATE}/s", answers.sent >= 0.9 * RATE * load.seconds)
    measured(f"{what}: errors", len(answers.errors), "errors", "0", not answers.errors)
    measured(f"{what}: p50", answers.percentile_ms(0.5), "ms", "reported", True)
    measured(f"{what}: p99", answers.percentile_ms(0.99), "ms", "reported", True)
    measured(f"{what}: longest", answers.percentile_ms(1), "ms", "reported", True)
    began = load.began
    assert not answers.errors, [(round(at - began, 2), words) for at, words in answers.errors[:20]]


class Tiny:
    """The deployment under load."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.exports = product.exports()
        body = {"name": "tiny", "export": self.exports[0], "replicas": 3, "memory_bytes": 300 * 2**20}
        self.id = product.api("POST", "deployments", body)["id"]
        self.settled(60)

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = self.product.api("GET", f"deployments/{self.id}")
        return row

    def settled(self, timeout_seconds: float = 45) -> dict[str, Any]:
        """Wait until all that is wanted is so, and nothing else stands beside it."""
        row: dict[str, Any] = {}

        def is_settled() -> bool:
            row.update(self.row())
            return (
                row["phase"] == "serving"
                and row["serving_revision"] == row["revision"]
                and row["ready_replicas"] == row["replicas"]
                and len(self.product.workloads()) == 1
                and len(self.product.replicas()) == row["replicas"]
            )

        try:
            until(is_settled, timeout_seconds, "the deployment serves what is wanted")
        except AssertionError as error:
            raise AssertionError(f"{error}: {row} {self.product.workloads()} {self.product.replicas()}") from error
        return row

    def move(self) -> int:
        """Make the next revision; those of an odd number negate, the others make positive. Returns its number."""
        revisions = f"deployments/{self.id}/revisions"
        number = int(self.product.api("GET", revisions)["items"][0]["number"]) + 1
        made = self.product.api("POST", revisions, {"export": self.exports[(number + 1) % 2]})
        assert made["number"] == number
        return number

    def scale(self, replicas: int) -> None:
        self.product.api("PATCH", f"deployments/{self.id}", {"replicas": replicas})


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    folder = Path(tempfile.mkdtemp(prefix="wl-"))
    product = Product(folder)
    try:
        product.up()
        yield product
    finally:
        product.stop()
        stop_all(product.var / "workloads", 0.0)
        if os.environ.get("SERVING_KEEP"):
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tiny(product: Product) -> Tiny:
    until(lambda: product.api("GET", "dataset-versions")["items"][0]["phase"] == "ready", 60, "the example is prepared")
    return Tiny(product)


def under_load(product: Product, what: str, disturb: Callable[[Load], None]) -> Load:
    with Load(product, RATE) as load:
        load.until(min(5.0, SECONDS / 5))
        disturb(load)
        load.until(SECONDS)
    tell_load(what, load)
    return load


def test_a_new_revision(product: Product, tiny: Tiny) -> None:
    def disturb(load: Load) -> None:
        number = tiny.move()
        begun = time.monotonic()
        assert tiny.settled()["serving_revision"] == number == 2
        measured("new revision: wanted to old one gone", round(time.monotonic() - begun, 1), "s", "reported", True)

    load = under_load(product, "new revision", disturb)
    assert set(load.answers.revisions) == {"1", "2"}


def test_roll_back(product: Product, tiny: Tiny) -> None:
    def disturb(load: Load) -> None:
        product.api("POST", f"deployments/{tiny.id}/roll-back", {"revision": 1})
        assert tiny.settled()["serving_revision"] == 1

    load = under_load(product, "roll back", disturb)
    assert set(load.answers.revisions) == {"1", "2"}


def test_scale(product: Product, tiny: Tiny) -> None:
    tiny.scale(1)
    tiny.settled()

    def disturb(load: Load) -> None:
        tiny.scale(3)
        tiny.settled()
        load.until(SECONDS / 2)
        tiny.scale(1)
        tiny.settled()

    try:
        under_load(product, "scale 1 -> 3 -> 1", disturb)
    finally:
        tiny.scale(3)
        tiny.settled()


def test_killed_replicas(product: Product, tiny: Tiny) -> None:
    def disturb(load: Load) -> None:
        for ordinal in ("0", "1", "2"):
            ((pid),) = [pid for (_, number), pid in product.replicas().items() if number == ordinal]
            os.kill(pid, signal.SIGKILL)
            time.sleep(max(1.0, SECONDS / 6))
            tiny.settled()

    under_load(product, "SIGKILL of a replica three times", disturb)


def seconds_until(product: Product, key: str, status: int) -> float:
    """Until all replicas answer this key so: twenty answers in a row."""
    begun, row, since = time.monotonic(), 0, 0.0
    while row < 20:
        answer = product.predict(key)
        since = since if row else time.monotonic() - begun
        row = row + 1 if answer.status_code == status else 0
        assert time.monotonic() - begun < 30, answer.text
    return round(since, 1)


def test_keys(product: Product, tiny: Tiny) -> None:
    made = product.api("POST", "api-keys", {"name": "caller"})
    measured("new key works after", took := seconds_until(product, made["key"], 200), "s", "10", took < KEY_SECONDS)
    ends = datetime.now(UTC) + timedelta(seconds=8)
    short = product.api("POST", "api-keys", {"name": "short", "expires_at": ends.isoformat()})
    product.api("DELETE", f"api-keys/{made['id']}")
    took = seconds_until(product, made["key"], 401)
    measured("revoked key refused after", took, "s", "10", took < KEY_SECONDS)
    assert "not known" in product.predict(made["key"]).text

    def expired() -> httpx.Response | None:
        answer = product.predict(short["key"])
        return answer if answer.status_code == 401 and "ended on" in answer.text else None

    words = until(expired, 20, "the key has expired").text
    dated = f"{ends.day} {ends:%B %Y}" in words
    measured("expired key refused with its date", int(dated), "yes", "1", dated)
    assert dated, words
    # It still says so when the scheduled job has ended the key.
    product.django("from apps.accounts.services import expire_keys", "expire_keys()")
    assert product.api("GET", f"api-keys/{short['id']}")["revoked_at"]
    time.sleep(6)
    assert "ended on" in product.predict(short["key"]).text
    assert not missed()


def test_killed_gateway(product: Product, tiny: Tiny) -> None:
    with Load(product, RATE) as load:
        load.until(3)
        killed = time.monotonic()
        product.kill("gateway")
        time.sleep(15)
    errors = load.answers.errors
    refused = round(max((at for at, _ in errors), default=killed) - killed, 2)
    measured("SIGKILL of the gateway: until the last error", refused, "s", "5", refused < GATEWAY_SECONDS)
    measured("SIGKILL of the gateway: requests lost", len(errors), "requests", "reported", True)
    wrong = [words for _, words in errors if "Error" not in words]
    assert not wrong, f"it answered, and wrongly: {wrong[:5]}"
    assert refused < GATEWAY_SECONDS
    tiny.settled()


def usage_rows(product: Product, tiny: Tiny) -> int:
    series = product.api("GET", f"deployments/{tiny.id}/usage", bucket="minute")
    return sum(item["requests"] for item in series)


def usage_files(product: Product) -> int:
    """What the replicas that stand say they answered."""
    lines = [
        line
        for path in (product.var / "workloads" / "workloads").glob("*/metrics/*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return sum(sum(json.loads(line)["requests"].values()) for line in lines)


def test_all_but_the_gateway_killed(product: Product, tiny: Tiny) -> None:
    assert product.process
    rows_before, files_before = usage_at_rest(product, tiny)
    replicas, workloads = product.replicas(), product.workloads()
    with Load(product, RATE) as load:
        load.until(2)
        os.kill(product.process.pid, signal.SIGSTOP)  # so that it brings nothing back
        product.kill("web", "worker", "beat", "postgres", "valkey")
        load.until(min(10.0, SECONDS / 3))
        victim = replicas[workloads[0], "1"]
        os.kill(victim, signal.SIGKILL)
        revived = until(
            lambda: (pid := product.replicas().get((workloads[0], "1"))) not in (None, victim) and pid, 20, "revived"
        )
        load.until(SECONDS)
    tell_load("all but the gateway dead", load)
    os.kill(product.process.pid, signal.SIGKILL)
    product.process.wait()
    product.time_scale = 0.2  # for the test after this one
    begun = time.monotonic()
    product.start()
    until(lambda: product.predict(product.key).status_code == 200, 60, "predictions")
    measured("make up again: until predictions", round(time.monotonic() - begun, 1), "s", "reported", True)
    product.up()
    measured("make up again: until it says so", round(time.monotonic() - begun, 1), "s", "reported", True)
    with Load(product, RATE) as after:
        tiny.settled()
        after.until(10)
    now = product.replicas()
    adopted = now == {**replicas, (workloads[0], "1"): revived} and product.workloads() == workloads
    measured("all adopted, nothing doubled", int(adopted), "yes", "1", adopted)
    measured("errors after make up", len(after.answers.errors), "errors", "0", not after.answers.errors)
    rows, files = usage_at_rest(product, tiny)
    counted, answered = rows - rows_before, load.answers.good + after.answers.good
    # A replica that is killed takes the window with it that it had not written: at most 10 s of a third.
    once = counted == files - files_before and answered - 12 * RATE / 3 <= counted <= answered + 20
    measured("usage counted once", counted, "requests", f"{answered} answered", once)
    assert adopted and once and not after.answers.errors, (now, replicas, after.answers.errors[:5])


def usage_at_rest(product: Product, tiny: Tiny) -> tuple[int, int]:
    """Requests by the rows and by the files, when the last window was written and read."""
    seen = -1, -1

    def at_rest() -> bool:
        nonlocal seen
        time.sleep(11)
        seen, before = (usage_rows(product, tiny), usage_files(product)), seen
        return seen == before

    until(at_rest, 60, "usage comes to rest")
    return seen


def test_worker_killed_in_roll_outs(product: Product, tiny: Tiny) -> None:
    dice = random.Random(int(os.environ.get("SERVING_SEED", "8")))
    moves = 5
    with Load(product, RATE) as load:
        for _ in range(moves):
            until(lambda: product.lives("worker"), 40, "the worker was started again")
            number = tiny.move()
            time.sleep(dice.uniform(0.0, 6.0))
            product.kill("worker")
            assert tiny.settled(90)["serving_revision"] == number
    tell_load("worker killed in five roll-outs", load)
