"""A deployment on two places at once keeps its promise through the death of either, and through moves: every prediction
of a steady load is answered."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from tests.clouds.kubernetes.simulator import Kubernetes
from tests.faults.product import Load, Product, free_port, until
from tests.faults.second_host import SecondHost, Wire, checkout, invite
from tests.figures import measured
from workers.targets.process.target import stop_all

RATE = 150
TIME_SCALE = 0.4  # a host is lost after 24 s; it sends a heartbeat every 10 s
LONGEST_MS = 12_000  # a cut is noticed after 5 s without an acknowledgement; then the request goes elsewhere
SECONDS = float(os.environ.get("TWO_TARGETS_SECONDS", "60"))  # shorter while one works on it
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are made by root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs the program ip (Debian: apt-get install iproute2)"),
]


class Far(Protocol):
    """The place that is not this machine. `away`: what the deployment says when all of it is dead."""

    name: str
    away: str

    def replicas(self) -> int: ...

    def die(self) -> None:
        """All of it at once: what is asked there, and every replica."""

    def come_back(self) -> None: ...


class Machine:
    """A host elsewhere."""

    name, away = "second", "second is lost"

    def __init__(self, second: SecondHost) -> None:
        self.second = second

    def replicas(self) -> int:
        return len(self.second.programs("workers.serving"))

    def die(self) -> None:
        self.second.kill()
        kill_programs(self.second.var)

    def come_back(self) -> None:
        self.second.start()
        self.second.joined()


class Cloud:
    """A Kubernetes; its pods are processes of this machine."""

    name, away = "cloud", "cloud does not answer"

    def __init__(self, kube: Kubernetes) -> None:
        self.kube, self.dead = kube, threading.Event()

    def replicas(self) -> int:
        pods = self.kube.objects("pods")
        return sum("running" in state for pod in pods for state in program_states(pod))

    def die(self) -> None:
        """Its API, and every pod again and again: its kubelet would start them anew."""
        self.kube.faults.down = True
        self.dead.set()
        threading.Thread(target=self._keep_dead, daemon=True).start()

    def _keep_dead(self) -> None:
        while self.dead.is_set():
            for uid in list(self.kube.kubelet.running):
                self.kube.kubelet.kill(uid)
            time.sleep(0.2)

    def come_back(self) -> None:
        self.dead.clear()
        self.kube.faults.down = False


def program_states(pod: dict[str, Any]) -> list[dict[str, Any]]:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return [status.get("state") or {} for status in statuses if status["name"] == "program"]


class Stands:
    """One deployment over this machine and a place elsewhere."""

    def __init__(self, product: Product, far: Far, here: str) -> None:
        self.product, self.far, self.here = product, far, here
        self.places: dict[str, str] = {}

        def known() -> bool:
            self.places = {row["name"]: row["id"] for row in product.api("GET", "places")["items"]}
            return far.name in self.places

        try:
            until(known, 60, "both places")
        except AssertionError as error:
            raise AssertionError(f"{product.api('GET', 'clusters')}") from error
        self.near = next(name for name in self.places if name != far.name)
        body = {"name": "tiny", "export": product.exports()[0], "memory_bytes": 300 * 2**20, "spread": self.both()}
        self.id = str(product.api("POST", "deployments", body)["id"])

    def both(self, near: int = 60, far: int = 40) -> list[dict[str, Any]]:
        return [self.on(self.near, 2, near), self.on(self.far.name, 2, far)]

    def on(self, name: str, replicas: int, weight: int = 100) -> dict[str, Any]:
        return {"place": self.places[name], "replicas": replicas, "weight": weight}

    def spread(self, *parts: dict[str, Any]) -> None:
        self.product.api("PATCH", f"deployments/{self.id}", {"spread": list(parts)})

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = self.product.api("GET", f"deployments/{self.id}")
        return row

    def counts(self) -> tuple[int, int]:
        """How many replicas there are here and there."""
        return len(self.product.replicas()), self.far.replicas()

    def settled(self, near: int, far: int, timeout_seconds: float = 90) -> None:
        def is_settled() -> bool:
            row = self.row()
            return bool(
                row["phase"] == "serving"
                and row["reason"] == "Serving"
                and row["ready_replicas"] == near + far
                and self.counts() == (near, far)
            )

        try:
            until(is_settled, timeout_seconds, "the deployment serves what is wanted")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.row()} {self.counts()}") from error

    def asked(self) -> tuple[int, int]:
        """How many requests the gateway has sent here and there."""
        socket = self.product.django(
            "from django.conf import settings", "print(settings.WINDLASS_GATEWAY_ADMIN_SOCKET)"
        ).strip()
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket)) as client:
            clusters = client.get("http://admin/clusters", params={"format": "json"}).json()["cluster_statuses"]
        here = there = 0
        for host in next(one for one in clusters if one["name"] == "replicas").get("host_statuses", []):
            total = next(int(one.get("value", 0)) for one in host["stats"] if one["name"] == "rq_total")
            if host["address"]["socket_address"]["address"] == self.here:
                here += total
            else:
                there += total
        return here, there

    def says(self, phase: str, words: str, timeout_seconds: float = 60) -> None:
        def told() -> bool:
            row = self.row()
            return row["phase"] == phase and words in row["message"]

        try:
            until(told, timeout_seconds, words)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.row()}") from error


def kill_programs(var: Path) -> None:
    """SIGKILL to every shim and every replica below, as when the machine loses its power."""
    marks = str(var).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if marks in told and (b"workers.targets.process.shim" in told or b"WINDLASS_WORKLOAD=" in told):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


@pytest.fixture(scope="module", params=["machine", "cloud"])
def stands(request: pytest.FixtureRequest) -> Iterator[Stands]:
    folder = Path(tempfile.mkdtemp(prefix="windlass-two-"))
    product = Product(folder)
    product.project = checkout(folder / "first")
    product.time_scale = TIME_SCALE
    with ExitStack() as left:
        left.callback(shutil.rmtree, folder, ignore_errors=True)
        stands = (on_a_machine if request.param == "machine" else on_a_cloud)(product, folder, left)
        stands.settled(2, 2)
        yield stands


def start(product: Product, left: ExitStack, **settings: object) -> None:
    product.more = settings
    left.callback(stop_all, product.var / "workloads", 1.0)
    left.callback(product.stop)
    product.up()
    until(lambda: product.api("GET", "dataset-versions")["items"][0]["phase"] == "ready", 60, "the example")


def on_a_machine(product: Product, folder: Path, left: ExitStack) -> Stands:
    try:
        wire = Wire()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr}")
    left.callback(wire.remove)
    second = SecondHost(folder / "second", wire)
    start(product, left, HOST_ADDRESS=wire.here, HOSTS_PORT=free_port())
    left.callback(second.end)
    second.start(invite(product, "second"))
    second.joined()
    return Stands(product, Machine(second), wire.here)


def on_a_cloud(product: Product, folder: Path, left: ExitStack) -> Stands:
    (folder / "kube").mkdir()
    kube = Kubernetes(folder / "kube")
    left.callback(kube.close)
    start(product, left, ALLOWED_PRIVATE_CIDRS="127.0.0.1/32")
    product.api("POST", "clusters", {"name": "cloud", "kubeconfig": kube.kubeconfig()})
    return Stands(product, Cloud(kube), "127.0.0.1")


def under_load(stands: Stands, what: str, disturb: Callable[[], None]) -> None:
    with Load(stands.product, RATE, clients=128) as load:
        load.until(min(5.0, SECONDS / 5))
        disturb()
        load.until(SECONDS)
    answers, began, what = load.answers, load.began, f"{stands.far.name}, {what}"
    measured(
        f"{what}: requests",
        answers.sent,
        "requests",
        f"{RATE}/s",
        answers.sent >= 0.9 * RATE * load.seconds,
    )
    measured(f"{what}: failed", len(answers.errors), "requests", "0", not answers.errors)
    measured(f"{what}: p99", answers.percentile_ms(0.99), "ms", "reported", True)
    longest = answers.percentile_ms(1)
    measured(f"{what}: longest", longest, "ms", f"{LONGEST_MS}", longest < LONGEST_MS)
    assert longest < LONGEST_MS
    assert not answers.errors, [(round(at - began, 2), words) for at, words in answers.errors[:20]]


def test_each_place_gets_its_share(stands: Stands) -> None:
    before = stands.asked()
    with Load(stands.product, RATE) as load:
        load.until(10)
    after = stands.asked()
    here, there = after[0] - before[0], after[1] - before[1]
    share = round(here / (here + there), 3)
    measured(
        f"{stands.far.name}, share of a place that has 60 of 100",
        share,
        "of all requests",
        "0.55 to 0.65",
        0.55 < share < 0.65,
    )
    assert 0.55 < share < 0.65 and not load.answers.errors, (here, there, load.answers.errors[:5])


def test_all_that_is_elsewhere_dies_and_comes_back(stands: Stands) -> None:
    def disturb() -> None:
        stands.far.die()
        stands.says("degraded", stands.far.away)
        stands.far.come_back()
        stands.settled(2, 2)

    under_load(stands, "all that is elsewhere dead and back", disturb)


def test_the_other_machine_is_cut_off_and_comes_back(stands: Stands) -> None:
    if not isinstance(stands.far, Machine):
        pytest.skip("its pods are on this machine")

    def disturb() -> None:
        assert isinstance(stands.far, Machine)
        stands.far.second.wire.cut()
        stands.says("degraded", stands.far.away)
        stands.far.second.wire.mend()
        stands.settled(2, 2)

    under_load(stands, "far machine cut off and back", disturb)


def test_every_replica_here_dies(stands: Stands) -> None:
    def disturb() -> None:
        kill_programs(stands.product.var)
        time.sleep(1)
        stands.settled(2, 2)

    under_load(stands, "near replicas and their shims dead", disturb)


def test_it_moves_there_and_back(stands: Stands) -> None:
    def disturb() -> None:
        stands.spread(stands.on(stands.far.name, 2))
        stands.settled(0, 2)
        stands.spread(stands.on(stands.near, 2))
        stands.settled(2, 0)
        stands.spread(*stands.both(30, 70))
        stands.settled(2, 2)

    under_load(stands, "moved there and back", disturb)
