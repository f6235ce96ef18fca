from pathlib import Path

import pytest

from tests.gateway.harness import Gateway, backend, route
from workers.gateway.files import ENDPOINTS, replace_file
from workers.gateway.model import Backend, Endpoint
from workers.gateway.render import render_replicas


def test_an_unknown_deployment_is_404_and_says_what_to_do(gateway: Gateway) -> None:
    answer = gateway.get("/acme/nothing/v2/models/x/infer")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert "/{workspace}/{deployment}/v2/models/{model}/infer" in answer.json()["error"]


def test_a_deployment_without_replicas_is_503_with_retry_after(gateway: Gateway) -> None:
    gateway.write(route(Backend("r1", 100)))
    answer = gateway.get("/acme/digits/v2/models/x/infer")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"].startswith("Deployment acme/digits has no replica ready.")
    assert gateway.get("/acme/digits/metrics").status_code == 404


def test_a_deployment_whose_replicas_are_all_dead_is_503_and_says_so(gateway: Gateway) -> None:
    dead = gateway.upstream("one")
    gateway.write(route(backend("r1", dead)))
    dead.kill()
    answer = gateway.get("/acme/digits/v2/models/x/infer", method="POST", content=b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"].startswith("Deployment acme/digits could not be reached")


def test_a_list_that_runs_empty_before_the_routes_know_is_503_in_words(gateway: Gateway) -> None:
    """Only endpoints change here, as when `write` stops half-way."""
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    replace_file(gateway.directory / ENDPOINTS, render_replicas({}))
    gateway.until(lambda: gateway.get("/acme/digits/v2").status_code == 503)
    answer = gateway.get("/acme/digits/v2")
    assert answer.json()["error"].startswith("Deployment acme/digits has no replica ready.")
    assert answer.headers["retry-after"] == "5"


def test_all_weights_zero_is_503_and_names_the_cause(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"), weight=0)))
    answer = gateway.get("/acme/digits/v2")
    assert answer.status_code == 503
    assert "sends no traffic to any revision" in answer.json()["error"]


def test_a_slow_answer_is_504_in_words(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one")), timeout_seconds=0.3))
    answer = gateway.get("/acme/digits/v2/models/x/infer", headers={"x-sleep": "5"})
    assert answer.status_code == 504
    assert answer.json()["error"].startswith("Deployment acme/digits did not answer in time.")


def test_a_body_above_the_limit_is_413_in_words(directory: Path) -> None:
    gateway = Gateway(directory, body_limit_bytes=2**20)
    gateway.start()
    try:
        gateway.write(route(backend("r1", gateway.upstream("one"))))
        path = "/acme/digits/v2/models/x/infer"
        assert gateway.get(path, method="POST", content=b"x" * 2**20).json()["bytes"] == 2**20
        answer = gateway.get(path, method="POST", content=b"x" * (2**20 + 1))
        assert answer.status_code == 413
        assert answer.json()["error"].startswith("The request is larger than 1 MiB.")
    finally:
        gateway.close()


def test_an_address_that_two_deployments_claim_answers_for_neither(gateway: Gateway) -> None:
    one, two = gateway.upstream("one"), gateway.upstream("two")
    gateway.write(route(backend("r1", one, two)), route(backend("r1", two), deployment="other"))
    assert {gateway.replica("acme/digits") for _ in range(10)} == {"one"}
    assert gateway.get("/acme/other/v2").status_code == 503


def test_bad_values_are_refused_with_a_value_that_would_work() -> None:
    for make, words in (
        (lambda: Endpoint("replica.example", 80), "10.0.0.7"),
        (lambda: Endpoint("127.0.0.1", 0), "1 to 65535"),
        (lambda: Backend("r1", -1), "from 0 to"),
        (lambda: route(Backend("r1", 1), deployment="a/../b"), "digits-2"),
        (lambda: route(Backend("r1", 1), deployment=".."), "digits-2"),
        (lambda: route(Backend("r1", 1), Backend("r1", 2)), "Rename one"),
        (lambda: route(Backend("r1", 1), version=0), "start at 1"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
