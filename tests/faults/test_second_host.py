"""A host on another machine: it takes work, comes back from kills and cuts, and no work is lost or done twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.product import EVEN, ODD, Product, free_port, running, until
from tests.faults.second_host import SecondHost, Wire, checkout, invite
from tests.figures import measured
from workers.targets.process.target import stop_all

CUT_SECONDS = float(os.environ.get("CUT_SECONDS", "120"))
FORGET_SECONDS = 150.0  # lost after a minute, which is looked for every 15 s; then what stood there is settled
LAUNCHER, SERVER = "workers.training.launch", "workers.serving"
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs the program ip (Debian: apt-get install iproute2)"),
]


class Hosts:
    """Both, and what is asked of the installation."""

    def __init__(self, product: Product, second: SecondHost) -> None:
        self.product, self.second = product, second

    def row(self, name: str) -> dict[str, Any]:
        return next(host for host in self.product.api("GET", "hosts")["items"] if host["name"] == name)

    @property
    def first_name(self) -> str:
        return next(host["name"] for host in self.product.api("GET", "hosts")["items"] if host["name"] != "second")

    def drain(self, name: str, draining: bool = True) -> None:
        self.product.api("PATCH", f"hosts/{self.row(name)['id']}", {"draining": draining})

    def digits(self) -> dict[str, Any]:
        dataset = self.product.api("GET", "datasets")["items"][0]["id"]
        version: dict[str, Any] = self.product.api("GET", f"datasets/{dataset}/versions")["items"][0]
        return version

    def train(self, **more: Any) -> str:
        data = self.digits()["id"]
        body = {"model": "digits", "recipe": "image_classifier", "dataset_version": data, "processes": 1, **more}
        return str(self.product.api("POST", "training-runs", body)["id"])

    def run(self, run: str) -> dict[str, Any]:
        row: dict[str, Any] = self.product.api("GET", f"training-runs/{run}")
        return row

    def trained(self, run: str, seconds: float = 120) -> dict[str, Any]:
        def ended() -> bool:
            return self.run(run)["phase"] in {"succeeded", "failed", "cancelled"}

        until(ended, seconds, f"the end of a run: {self.run(run)['message']}")
        row = self.run(run)
        assert row["phase"] == "succeeded", row["message"]
        return row

    def placements(self, owner: str) -> list[dict[str, Any]]:
        found = self.product.api("GET", "placements", limit=100)["items"]
        return [row for row in found if row["owner"] == owner]

    def places_of(self, owner: str) -> list[str]:
        """The names of the hosts that its placements stood on."""
        places = {place["id"]: place["name"] for place in self.product.api("GET", "places")["items"]}
        return sorted(places[row["place"]] for row in self.placements(owner))


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    folder = Path(tempfile.mkdtemp(prefix="windlass-hosts-"))
    try:
        wire = Wire()
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder)
        pytest.skip(f"no network namespace can be made here: {error.stderr}")
    product, second = Product(folder), SecondHost(folder / "second", wire)
    product.project = checkout(folder / "first")
    product.more = {"HOST_ADDRESS": wire.here, "HOSTS_PORT": free_port()}
    try:
        product.up()
        second.start(invite(product, "second"))
        second.joined()
        hosts = Hosts(product, second)
        until(lambda: hosts.digits()["phase"] == "ready", 60, "the example's check")
        yield hosts
    finally:
        second.end()
        product.stop()
        stop_all(product.var / "workloads", 1.0)
        wire.remove()
        shutil.rmtree(folder)


def test_what_is_drained_sends_its_work_to_the_other(hosts: Hosts) -> None:
    hosts.drain(hosts.first_name)
    there = hosts.train()
    assert hosts.trained(there)["attempt"] == 1
    hosts.drain(hosts.first_name, False)
    hosts.drain("second")
    here = hosts.train()
    hosts.trained(here)
    hosts.drain("second", False)
    assert (hosts.places_of(there), hosts.places_of(here)) == (["second"], [hosts.first_name])


def test_the_second_host_holds_no_blob(hosts: Hosts) -> None:
    there = {path.name for path in hosts.second.var.iterdir()}
    assert not there & {"storage", "postgres", "gateway", "credentials.json"}
    assert (hosts.product.var / "storage").exists()


def test_two_nodes_on_two_hosts_train_together(hosts: Hosts) -> None:
    began = time.monotonic()
    run = hosts.train(nodes=2, processes=2)
    row = hosts.trained(run, 180)
    measured("two nodes on two hosts", round(time.monotonic() - began, 1), "s", "reported", True)
    assert hosts.places_of(run) == sorted([hosts.first_name, "second"])
    assert row["metrics"]["held_out_accuracy"] > 0.95


def test_a_stop_in_good_order_stops_what_runs_there(hosts: Hosts) -> None:
    hosts.drain(hosts.first_name)
    run = hosts.train(hyperparameters={"epochs": 60})
    until(lambda: hosts.run(run)["step"] > 0, 60, "a first step")
    hosts.drain(hosts.first_name, False)
    hosts.second.stop()
    assert (hosts.second.programs(LAUNCHER), "Stopped." in hosts.second.said) == ({}, True)
    hosts.second.start()
    hosts.second.joined()
    hosts.trained(run, 180)


def test_a_run_on_both_does_not_notice_that_a_worker_was_killed(hosts: Hosts) -> None:
    run = hosts.train(nodes=2, processes=2, hyperparameters={"epochs": 60})
    until(lambda: hosts.run(run)["step"] > 0, 90, "a first step")
    training = hosts.second.programs(LAUNCHER)
    hosts.second.kill()
    time.sleep(2)
    hosts.second.start()
    hosts.second.joined()
    assert hosts.second.programs(LAUNCHER) == training != {}
    assert hosts.trained(run, 240)["attempt"] == 1
    assert len(hosts.placements(run)) == 2


def test_a_run_on_both_ends_well_although_they_were_cut_apart(hosts: Hosts) -> None:
    run = hosts.train(nodes=2, processes=2, hyperparameters={"epochs": 60})
    until(lambda: hosts.run(run)["step"] > 0, 90, "a first step")
    hosts.second.wire.cut()
    time.sleep(CUT_SECONDS)
    hosts.second.wire.mend()
    row = hosts.trained(run, 420)
    measured("two nodes cut apart: attempts", row["attempt"], "attempts", "reported", True)
    assert {place["phase"] for place in hosts.placements(run)} <= {"succeeded", "failed", "cancelled", "deleted"}
    assert hosts.second.programs(LAUNCHER) == running(LAUNCHER, hosts.product.workloads()) == {}


def deploy(hosts: Hosts) -> str:
    body = {"name": "tiny", "export": hosts.product.exports()[0], "replicas": 1, "memory_bytes": 300 * 2**20}
    made = str(hosts.product.api("POST", "deployments", body)["id"])
    until(lambda: hosts.product.api("GET", f"deployments/{made}")["phase"] == "serving", 60, "serving")
    return made


def answers(hosts: Hosts) -> bool:
    response = hosts.product.predict(hosts.product.key)
    return response.status_code == 200 and response.json()["outputs"][0]["data"] in (ODD, EVEN)


@pytest.fixture(scope="module")
def deployment(hosts: Hosts) -> str:
    """One replica, on the second host."""
    hosts.drain(hosts.first_name)
    made = deploy(hosts)
    hosts.drain(hosts.first_name, False)
    return made


def test_a_replica_there_answers_through_the_gateway(hosts: Hosts, deployment: str) -> None:
    until(lambda: answers(hosts), 20, "an answer")
    assert hosts.places_of(deployment) == ["second"]
    assert (len(hosts.second.programs(SERVER)), len(hosts.product.replicas())) == (1, 0)


def test_a_killed_worker_finds_its_workloads_again(hosts: Hosts, deployment: str) -> None:
    place = hosts.placements(deployment)[0]["place"]
    run = hosts.train(place=place, hyperparameters={"epochs": 60})
    until(lambda: hosts.run(run)["step"] > 0, 60, "a first step")
    serving, training = hosts.second.programs(SERVER), hosts.second.programs(LAUNCHER)
    assert len(serving) == len(training) == 1
    hosts.second.kill()
    assert answers(hosts), "a replica needs no worker"
    assert hosts.second.programs(SERVER) == serving
    hosts.second.start()
    hosts.second.joined()
    assert hosts.second.programs(LAUNCHER) == training, "the same process, adopted"
    assert hosts.trained(run, 180)["attempt"] == 1
    assert hosts.second.programs(SERVER) == serving
    assert len(hosts.placements(run)) == len(hosts.placements(deployment)) == 1


def test_a_cut_of_two_minutes_loses_nothing_and_doubles_nothing(hosts: Hosts, deployment: str) -> None:
    """The run ends while nobody can be told, and the replica is replaced while the old one lives on."""
    place = hosts.placements(deployment)[0]["place"]
    run = hosts.train(place=place, hyperparameters={"epochs": 60})
    until(lambda: hosts.run(run)["step"] > 0, 60, "a first step")
    hosts.second.wire.cut()
    began = time.monotonic()
    until(lambda: not hosts.second.programs(LAUNCHER), CUT_SECONDS, "the end of the program behind the cut")
    until(lambda: hosts.row("second")["lost_at"], CUT_SECONDS, "the host is lost")
    until(lambda: answers(hosts), CUT_SECONDS, "an answer from elsewhere")
    measured("cut off: until another replica answers", round(time.monotonic() - began, 1), "s", "reported", True)
    time.sleep(max(0.0, began + CUT_SECONDS - time.monotonic()))
    hosts.second.wire.mend()
    mended = time.monotonic()
    until(lambda: hosts.row("second")["lost_at"] is None, 90, "the host is back")
    measured("mended: until the host is back", round(time.monotonic() - mended, 1), "s", "reported", True)
    assert hosts.trained(run, 90)["attempt"] == 1, "what it made during the cut is what counts"
    assert len(hosts.placements(run)) == 1

    def one_replica() -> bool:
        return len(hosts.second.programs(SERVER)) + len(hosts.product.replicas()) == 1

    until(one_replica, 90, "one replica in all")
    assert answers(hosts)


def test_who_was_forgotten_is_not_let_in_again(hosts: Hosts) -> None:
    hosts.second.stop()
    host = hosts.row("second")["id"]
    until(lambda: hosts.row("second")["lost_at"], 90, "lost")
    hosts.product.api("POST", f"hosts/{host}/declare-dead")

    def forgotten() -> bool:
        return hosts.product.http.delete(
            f"http://127.0.0.1:{hosts.product.port}/api/v1/workspaces/default/hosts/{host}",
            headers={"authorization": f"Bearer {hosts.product.key}"},
        ).is_success

    until(forgotten, FORGET_SECONDS, "forgotten")
    hosts.second.start()
    process = hosts.second.process
    assert process and process.wait(60) != 0
    assert "does not let this host" in hosts.second.said
    assert not (hosts.second.var / "run.json").exists()
    assert "second" not in [row["name"] for row in hosts.product.api("GET", "hosts")["items"]]
