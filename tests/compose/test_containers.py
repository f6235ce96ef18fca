"""docker-compose.yml, really built and run: the path, a killed database, a second worker, and a stop with data kept."""

from __future__ import annotations

import json
import time

import pytest

from tests.compose.engine import IMAGE
from tests.compose.stack import NAME, Stack, until

pytestmark = pytest.mark.timeout(900)
ONE_SHOT = {"secrets-1", "migrate-1"}
SERVING = {"postgres-1", "valkey-1", "web-1", "worker-1", "beat-1", "gateway-1"}


def test_the_image_holds_nothing_of_the_machine_that_built_it(stack: Stack) -> None:
    look = (
        "find /run/secrets /etc/pip.conf /root/.cache -type f -size +0; id -u; ls .venv/bin | grep -c -e ruff -e pytest"
    )
    found = stack.engine.docker("run", "--rm", "--network", "none", "--entrypoint", "sh", IMAGE, "-c", f"{look}; true")
    assert found.split() == ["10001", "0"]
    history = stack.engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE)
    assert "http" not in history


def test_everything_starts_healthy_and_is_published_on_this_machine_only(stack: Stack) -> None:
    seconds = stack.up()
    stack.measured("compose_up_cold", seconds, "s", "< 120", seconds < 120)
    containers = stack.containers()
    assert set(containers) == ONE_SHOT | SERVING
    assert {containers[name]["State"]["ExitCode"] for name in ONE_SHOT} == {0}
    assert {containers[name]["State"]["Health"]["Status"] for name in SERVING} == {"healthy"}
    bindings = [
        binding
        for item in containers.values()
        for published in (item["NetworkSettings"]["Ports"] or {}).values()
        for binding in published or ()
    ]
    assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
    assert {int(binding["HostPort"]) for binding in bindings} == {stack.web_port, stack.gateway_port}


def test_no_secret_is_in_what_the_engine_tells(stack: Stack) -> None:
    secrets = stack.compose("exec", "-T", "web", "sh", "-c", "cat /secrets/*").split()
    told = json.dumps(stack.containers())
    words = [word.strip('[]{},"') for word in secrets]
    assert len([word for word in words if len(word) > 30]) >= 3
    assert not [word for word in words if len(word) > 30 and word in told]


def test_it_trains_exports_deploys_and_predicts(stack: Stack) -> None:
    began = time.monotonic()
    run = stack.train()
    assert run["metrics"]["held_out_accuracy"] > 0.9
    stack.deploy("first", run["result"])
    images, labels = stack.held_out(20)
    answer = until(lambda: stack.predict("first", images).raise_for_status(), 20, "a prediction").json()
    scores = answer["outputs"][0]["data"]
    seen = [scores[item * 10 : item * 10 + 10] for item in range(len(labels))]
    right = sum(str(row.index(max(row))) == label for row, label in zip(seen, labels, strict=True))
    stack.measured("compose_path", time.monotonic() - began, "s", "none set", True)
    assert right >= 17


def test_a_killed_database_comes_back_and_the_run_goes_on(stack: Stack) -> None:
    run = f"training-runs/{stack.begin_training(epochs=12)}"
    until(lambda: stack.get(run)["step"] > 5, 120, "a step")
    with stack.asking("first") as answers:
        stack.crash("postgres-1")
        began = time.monotonic()
        until(lambda: stack.containers()["postgres-1"]["RestartCount"] == 1, 30, "a new start of PostgreSQL")
        until(lambda: stack.client.get(run), 60, "the API again")
        seconds = time.monotonic() - began
        stack.measured("postgres_back", seconds, "s", "< 30", seconds < 30)
        assert stack.follow(run, {"succeeded"})["attempt"] == 1
    lost = sum(answers.values()) - answers["200"]
    stack.measured("predictions_lost_while_postgres_died", lost, f"of {sum(answers.values())}", "0", lost == 0)
    assert answers["200"] > 50
    assert lost == 0, answers


def test_a_second_worker_joins_and_shares_blobs_and_gateway(stack: Stack) -> None:
    seconds = stack.up(workers=2)
    hosts = until(lambda: len(found := stack.hosts()) == 2 and found, 30, "two hosts")
    assert set(hosts) == {"worker-1", "worker-2"}
    stack.measured("second_worker_joins", seconds, "s", "< 60", seconds < 60)
    drain(stack, hosts["worker-1"], True)
    run = stack.train()
    served = stack.deploy("second", run["result"])
    drain(stack, hosts["worker-1"], False)
    assert stack.hosts_of(run["id"]) == stack.hosts_of(served["id"]) == {"worker-2"}
    assert until(lambda: stack.predict("second").is_success, 20, "a prediction from worker-2")
    assert stack.predict("first").status_code == 200


def test_down_and_up_keep_the_data(stack: Stack) -> None:
    before = {item["id"]: item["phase"] for item in stack.get("training-runs")["items"]}
    assert len(before) == 3
    stack.compose("down")
    assert stack.containers() == {}
    began = time.monotonic()
    stack.up(workers=2)
    for name in stack.deployments:
        until(lambda name=name: stack.predict(name).is_success, 90, f"an answer of {name}")
    seconds = time.monotonic() - began
    stack.measured("down_and_up_until_all_deployments_answer", seconds, "s", "< 120", seconds < 120)
    assert {item["id"]: item["phase"] for item in stack.get("training-runs")["items"]} == before
    assert set(stack.hosts()) == {"worker-1", "worker-2"}


def test_serving_goes_on_without_all_the_rest(stack: Stack) -> None:
    with stack.asking("first") as answers:
        stack.compose("kill", "web", "beat", "valkey", "postgres")
        time.sleep(5)
    lost = sum(answers.values()) - answers["200"]
    stack.measured("predictions_lost_without_control_plane", lost, f"of {sum(answers.values())}", "0", lost == 0)
    assert answers["200"] > 20
    assert lost == 0, answers


def test_down_with_volumes_leaves_nothing(stack: Stack) -> None:
    stack.compose("down", "--volumes", "--timeout", "20")
    assert stack.containers() == {}
    assert NAME not in stack.engine.docker("volume", "ls", "-q")
    assert NAME not in stack.engine.docker("network", "ls", "--format", "{{.Name}}")


def drain(stack: Stack, host: str, draining: bool) -> None:
    answer = stack.client.http.patch(f"hosts/{host}", json={"draining": draining})
    assert answer.is_success, answer.text
