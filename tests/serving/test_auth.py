"""Keys: who is answered, who is not, and what the bundle's changes do."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.serving.replica import SECRET, Replica, bundle, image, running, wait_for


def test_a_call_without_a_key_is_refused(replica: Replica) -> None:
    response = replica.infer(image(), key=None)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.json()["error"] == "This call has no key. Send the header Authorization: Bearer <key>."


def test_another_scheme_is_refused(replica: Replica) -> None:
    response = httpx.get(f"{replica.url}/v2", headers={"Authorization": "Basic d2w6eA=="})
    assert response.status_code == 401
    assert response.json()["error"].startswith("The Authorization header must read Bearer <key>")


@pytest.mark.parametrize("key", ["wl_live_other", SECRET.upper(), f"{SECRET}x", "0" * 64])
def test_an_unknown_key_is_refused(replica: Replica, key: str) -> None:
    response = replica.infer(image(), key=key)
    assert response.status_code == 401
    assert response.json()["error"].startswith("This key is not known to this deployment (windlass/digits).")


def test_the_paths_of_a_model_need_a_key_and_health_does_not(replica: Replica) -> None:
    for path in ("/v2", "/v2/models", "/v2/models/digits", "/v2/models/digits/ready", "/v2/nothing"):
        assert replica.get(path, key=None).status_code == 401
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        assert replica.get(path, key=None).status_code == 200


def test_an_ended_key_is_refused_with_its_day(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        replica.publish(bundle(expires_at=datetime(2025, 11, 20, tzinfo=UTC).timestamp()))
        wait_for(lambda: replica.infer(image()).status_code == 401)
        error = replica.infer(image()).json()["error"]
        assert error == "This key ended on 20 November 2025. Make a new one; old and new can overlap."


def test_a_key_ends_by_itself_at_its_time(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        replica.publish(bundle("old", "new", expires_at=time.time() + 1.2))
        wait_for(lambda: replica.infer(image(), key="new").status_code == 200)
        wait_for(lambda: replica.infer(image(), key="old").status_code == 401, timeout_seconds=3)


def test_a_revoked_key_stops_within_a_second_on_an_open_connection(tmp_path: Path) -> None:
    with running(tmp_path) as replica, httpx.Client(base_url=replica.url) as client:
        headers = {"Authorization": f"Bearer {SECRET}"}
        assert client.get("/v2", headers=headers).status_code == 200
        replica.publish(bundle("another"))
        revoked_at = time.monotonic()
        while client.get("/v2", headers=headers).status_code == 200:
            assert time.monotonic() < revoked_at + 1
            time.sleep(0.01)
        assert replica.infer(image(), key="another").status_code == 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"keys": {}}', b'{"keys": {"a": 1}, "made_at": 1}', b'{"keys": null, "made_at": 1}']
)
def test_a_broken_bundle_leaves_the_last_good_one(replica: Replica, content: bytes) -> None:
    said = replica.log().count("The auth bundle can't be used, the last good one stays")
    replica.publish(content)
    wait_for(lambda: replica.log().count("The auth bundle can't be used, the last good one stays") > said)
    assert replica.infer(image()).status_code == 200


def test_an_old_or_missing_bundle_keeps_serving_and_its_age_is_a_metric(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        replica.publish(bundle(made_at=time.time() - 7200))
        age = "windlass_auth_bundle_age_seconds 72"
        wait_for(lambda: age in replica.get("/metrics").text, lambda: replica.get("/metrics").text)
        (tmp_path / "live" / "auth.json").unlink()
        time.sleep(0.7)
        assert replica.infer(image()).status_code == 200


def test_without_any_bundle_it_is_not_ready_and_says_why(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        first.end()
    (tmp_path / "live" / "auth.json").unlink()
    replica = Replica(tmp_path)
    try:
        replica.start(wait=False)
        wait_for(lambda: "is loaded" in replica.log().rsplit("Revision", 1)[-1] and replica.get("/metrics"))
        ready = replica.get("/v2/health/ready")
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
        assert "has not been told yet which keys" in ready.json()["error"]
        assert replica.infer(image()).status_code == 503
        replica.publish(bundle())
        wait_for(lambda: replica.infer(image()).status_code == 200)
    finally:
        replica.end()


def test_a_key_s_limit_is_429_with_the_time_to_wait(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        replica.publish(bundle("limited", "free", requests_per_minute=6))
        wait_for(lambda: replica.get("/v2", key="limited").status_code == 200)
        answers = [replica.infer(image(), key="limited") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 6 + [429]
        seconds = int(answers[-1].headers["retry-after"])
        assert 8 <= seconds <= 10
        assert answers[-1].json()["error"] == (
            "429: this key may make 6 requests a minute and has made them. "
            f"Try again after {seconds} s (the header says so), or raise the key's limit."
        )
        assert replica.infer(image(), key="free").status_code == 200
        assert replica.get("/v2", key="limited").status_code == 200


def test_replicas_share_a_key_s_limit_and_each_lets_at_least_one_pass(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        content = bundle("some", requests_per_minute=6) | {"replicas": 3}
        content["keys"] |= bundle("few", requests_per_minute=2)["keys"]
        next(reversed(content["keys"].values()))["id"] = "key_few"
        replica.publish(content)
        wait_for(lambda: replica.get("/v2", key="few").status_code == 200)
        answers = [replica.infer(image(), key="some") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert "6 requests a minute" in answers[-1].json()["error"]
        assert [replica.infer(image(), key="few").status_code for _ in range(2)] == [200, 429]


def test_a_copy_that_the_gateway_made_costs_its_key_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as replica:
        replica.publish(bundle("limited", requests_per_minute=1))
        wait_for(lambda: replica.get("/v2", key="limited").status_code == 200)
        assert [replica.infer(image(), "limited", x_windlass_shadow="1").status_code for _ in range(3)] == [200] * 3
        assert [replica.infer(image(), "limited").status_code for _ in range(2)] == [200, 429]
        replica.terminate()
        replica.wait()
    statuses, keys = (
        sum((Counter(window[name]) for window in replica.windows()), Counter()) for name in ("requests", "keys")
    )
    assert (statuses["200"], statuses["429"]) == (5, 1)
    assert keys == {"key_0": 3}, "one look, one prediction and one refusal"
