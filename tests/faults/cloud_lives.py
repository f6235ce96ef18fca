"""Many clusters' lives at once, each with its own luck: faults of the cloud, workers that die, machines that vanish."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from apps.accounts.models import Workspace
from apps.clouds.models import CloudAccount
from apps.clusters.models import CloudResource, Cluster
from apps.core.actor import WINDLASS
from apps.core.sealing import unseal_field
from apps.core.wants import create, want
from tests.clouds import aws
from tests.clouds.api_server import ApiServer
from tests.clouds.proxy import Chance, Proxy, serve
from tests.faults.product import free_port, until
from tests.providers.conftest import new_account
from tests.spine.conftest import World
from workers import engine
from workers.providers import graph
from workers.reconcilers import RECONCILERS, accounts, sights

AT_ONCE, SWEEPERS = 24, 4
LIFE_SECONDS, END_SECONDS = 40.0, 120.0
KILL_SHARE = 0.004
SCALE, HIDE_SECONDS = 0.03, 30.0
CLUSTER_NAME = len("cls-") + 26


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL: the lease stands until it expires."""


class Killer:
    """Dies at a share of the crash points passed."""

    def __init__(self, seed: int, monkeypatch: Any) -> None:
        self.luck, self.kills, self.on = random.Random(f"kill:{seed}"), Counter[str](), True
        for module in (engine, graph, sights, accounts):
            monkeypatch.setattr(module, "point", self.point)

    def point(self, name: str) -> None:
        if self.on and self.luck.random() < KILL_SHARE:
            self.kills[name.split(".")[0]] += 1
            raise Killed(name)


@dataclass
class Life:
    """`ends_in`: the phase in which somebody deletes it; `mishap`: what happens to a ready one behind our back."""

    number: int
    row: Cluster
    ends_in: str
    mishap: str
    stops_first: bool
    began: float = field(default_factory=time.monotonic)
    ending_since: float = 0.0
    met: bool = False


class Lives:
    """Runs `count` lives against `proxy`; `stuck` names those that did not end in time."""

    def __init__(self, seed: int, count: int, account: CloudAccount, proxy: Proxy, moto: str) -> None:
        self.seed, self.count, self.account, self.proxy, self.moto = seed, count, account, proxy, moto
        self.stuck: list[str] = []
        self.ends: Counter[str] = Counter()
        self.mishaps: Counter[str] = Counter()
        self.crashes: list[str] = []
        self._stop = threading.Event()
        self._servers: dict[Any, ApiServer] = {}

    def begin(self, number: int) -> Life:
        luck = random.Random(f"life:{self.seed}:{number}")
        row = Cluster(
            workspace_id=self.account.workspace_id,
            name=f"c{number}",
            provider="ec2",
            account=self.account,
            region=self.account.region,
            machine_type="t3.medium",
            machines=luck.choice([1, 1, 2]),
            approved=True,
            network={"cidr": "10.20.0.0/16"},
            allowed_cidrs=["203.0.113.0/24"],
            reach="nodes",
        )
        ends_in = luck.choice(["planning", "creating", "creating", "joining", "ready", "ready", "ready"])
        mishap = luck.choice(["", "", "terminate", "stop"]) if ends_in == "ready" else ""
        self.proxy.subjects[row.typed_id.replace("_", "-")] = f"c{number}"
        create(row, WINDLASS)
        return Life(number, row, ends_in, mishap, luck.random() < 0.3)

    def run(self) -> None:
        sweepers = [threading.Thread(target=self._sweep) for _ in range(SWEEPERS)]
        for sweeper in sweepers:
            sweeper.start()
        living: list[Life] = []
        begun = 0
        try:
            while begun < self.count or living:
                while begun < self.count and len(living) < AT_ONCE:
                    living.append(self.begin(begun))
                    begun += 1
                living = [life for life in living if not self._over(life)]
                time.sleep(0.05)
        finally:
            self._stop.set()
            for sweeper in sweepers:
                sweeper.join()
            for server in self._servers.values():
                server.close()

    def _sweep(self) -> None:
        try:
            while not self._stop.is_set():
                found = engine.due("reconcile")
                for kind, row_id in found:
                    try:
                        engine.reconcile(kind, row_id, RECONCILERS)
                    except Killed:
                        connection.close()
                if not found:
                    time.sleep(0.02)
        except Exception as error:  # told by the test
            self.crashes.append(repr(error))
            raise
        finally:
            connection.close()

    def _over(self, life: Life) -> bool:
        row = life.row
        row.refresh_from_db()
        if row.phase == "deleted":
            self._close(row)
            return True
        now = time.monotonic()
        if row.phase in {"joining", "ready"} and row.pk not in self._servers:
            self._answer_as(row)
        if life.mishap and row.phase == "ready" and not life.met:
            self._mishap(life)
        elif not life.ending_since and (row.phase == life.ends_in or row.is_final or now - life.began > LIFE_SECONDS):
            self.ends[row.phase] += 1
            life.ending_since = now
            if life.stops_first and not row.is_final:
                want(row, WINDLASS, goal="stop")
            else:
                want(row, WINDLASS, goal="delete")
        elif life.ending_since and row.is_final and row.goal != "delete":
            want(row, WINDLASS, goal="delete")
        if life.ending_since and now - life.ending_since > END_SECONDS:
            self.stuck.append(f"c{life.number} {row.phase} {row.reason}: {row.message} strikes {row.strikes}")
            self._close(row)
            return True
        return False

    def _answer_as(self, row: Cluster) -> None:
        if "server" in row.access:
            address = row.access["server"].split("//")[1].split(":")[0]
            self._servers[row.pk] = ApiServer(json.loads(unseal_field(row, "credentials")), address, nodes=row.machines)

    def _close(self, row: Cluster) -> None:
        if server := self._servers.pop(row.pk, None):
            server.close()

    def _mishap(self, life: Life) -> None:
        """Somebody, or the cloud itself, ends its last machine."""
        life.met, life.ends_in = (
            True,
            random.Random(f"{self.seed}:{life.number}").choice(["degraded", "creating", "ready"]),
        )
        ids = CloudResource.objects.filter(cluster=life.row, kind="machine", state="live").order_by("key")
        ec2 = aws.client(self.moto, "ec2")
        end: Callable[..., Any] = ec2.terminate_instances if life.mishap == "terminate" else ec2.stop_instances
        if found := list(ids.values_list("cloud_id", flat=True)):
            end(InstanceIds=found[-1:])
            self.mishaps[life.mishap] += 1


@dataclass
class Told:
    """What a trial came to. `doubled`: two things of one token, and machines made before those before were gone."""

    lived: int
    faults: Counter[str]
    kills: Counter[str]
    mishaps: Counter[str]
    ends: Counter[str]
    leaked: list[str]
    doubled: list[str]
    stuck: list[str]
    crashes: list[str]
    left_open: int
    extra: int
    seconds: float

    @property
    def wrong(self) -> list[str]:
        left = [f"{self.left_open} lines of the ledger are open"] if self.left_open else []
        return [*self.leaked, *self.doubled, *self.stuck, *self.crashes, *left]


def trial(workspace: Workspace, moto: str, settings: Any, monkeypatch: Any, seed: int, count: int) -> Told:
    """Live `count` lives with this seed before an empty moto."""
    from workers.providers.aws import _client

    _client.cache_clear()
    settings.WINDLASS_HINTS = False
    settings.WINDLASS_TIME_SCALE = SCALE
    settings.WINDLASS_ALLOWED_PRIVATE_CIDRS = ("127.0.0.0/8",)
    began = time.monotonic()
    proxy = Proxy(moto, lambda request: "", HIDE_SECONDS * SCALE, seed)

    def name(subject: str) -> str:
        """Its own, "c7-machine-0", of a name that has the cluster's random id in it."""
        cluster = subject[:CLUSTER_NAME]
        return proxy.subjects.get(cluster, cluster) + subject[CLUSTER_NAME:]

    with serve(proxy) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        world = World(workspace, ["reconcile"])
        account = new_account(world)
        world.phase(account, "ready")
        proxy.choose = Chance(seed, name)
        killer = Killer(seed, monkeypatch)
        lives = Lives(seed, count, account, proxy, moto)
        lives.run()
    return Told(
        lived=Cluster.objects.filter(phase="deleted").count(),
        faults=proxy.faults,
        kills=killer.kills,
        mishaps=lives.mishaps,
        ends=lives.ends,
        leaked=aws.remains(moto),
        doubled=doubled(proxy),
        stuck=lives.stuck,
        crashes=lives.crashes,
        left_open=CloudResource.objects.filter(gone_at=None).count(),
        extra=CloudResource.objects.filter(attempt__gt=1).count(),
        seconds=time.monotonic() - began,
    )


def doubled(proxy: Proxy) -> list[str]:
    found = [f"{token}: {sorted(made)}" for token, made in proxy.made_by_token().items() if len(made) > 1]
    before: Any = None
    for line in CloudResource.objects.exclude(cloud_id="").order_by("cluster", "key", "attempt"):
        same = before is not None and (before.cluster_id, before.key) == (line.cluster_id, line.key)
        if same and (before.gone_at is None or before.gone_at > line.intended_at):
            found.append(f"{line.name} was made before {before.name} was gone")
        before = line
    return found


@contextmanager
def served_moto() -> Iterator[str]:
    """In a process of its own, since it works as much as the reconcilers do. Yields its address."""
    port, quiet = free_port(), subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-m", "tests.clouds.aws", str(port)], stdout=quiet, stderr=quiet)

    def answers() -> bool:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True

    try:
        until(answers, 30, "moto answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
