"""Places that are told how their replicas do, and what must be true of a deployment over them at every moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.clusters.models import Cluster, Host
from apps.core.actor import WINDLASS
from apps.core.wants import create, wake, want
from apps.deployments.models import Deployment, Gateway, Revision
from apps.exports.models import Export
from apps.placements.models import Place, Placement
from apps.placements.observation import Exit, Observed, Rank, State
from apps.placements.services import wake_owners
from apps.placements.workload import Workload
from apps.registry import blobs
from apps.registry.models import Model, ModelVersion
from tests.spine.conftest import World
from workers.reconcilers.gateways import routes
from workers.targets.contract import Chunk, Owned, Unavailable


class Site:
    """One place's target: replicas are ready at once, unless it is told to hold them, or not to answer."""

    def __init__(self, sites: Sites, number: int) -> None:
        self.sites, self.number = sites, number
        self.held = self.silent = self.full = False
        self.address = "127.0.0.1"
        self.running: dict[str, tuple[Workload, int]] = {}
        self.ready: dict[str, set[int]] = {}
        self.stopped: set[str] = set()

    def apply(self, place: Any, workload: Workload, generation: int, secrets: Any, grants: Any) -> None:
        self._answer()
        before = self.running.get(workload.name)
        if before and workload.replicas < before[0].replicas:
            self.sites.stopping(workload.name, set(range(workload.replicas, before[0].replicas)))
        self.running[workload.name] = (workload, generation)
        wanted = set(range(workload.replicas))
        self.ready[workload.name] = wanted & self.ready.get(workload.name, set()) if self.held else wanted

    def observe(self, place: Any) -> dict[str, Observed]:
        self._answer()
        return {name: self._seen(name) for name in self.running}

    def stop(self, place: Any, name: str, grace_seconds: float) -> None:
        self._answer()
        self.sites.stopping(name, set(range(100)))
        self.stopped.add(name)

    def delete(self, place: Any, name: str) -> None:
        self._answer()
        self.sites.stopping(name, set(range(100)))
        self.running.pop(name, None)

    def logs(self, place: Any, name: str, stream: str, offset: int, limit: int) -> Chunk:
        return Chunk(b"", offset, offset)

    def publish(self, place: Any, name: str, file: str, content: bytes) -> None:
        self._answer()

    def list_owned(self, place: Any) -> Iterable[Owned]:
        return []

    def let_go(self) -> None:
        """What was held gets ready."""
        self.held = self.full = False
        self.ready = {name: set(range(workload.replicas)) for name, (workload, _) in self.running.items()}

    def _answer(self) -> None:
        if self.silent:
            raise Unavailable("no route to it")

    def _seen(self, name: str) -> Observed:
        workload, generation = self.running[name]
        if name in self.stopped:
            return Observed("exited", generation, exit=Exit(0, None, "ok", "Ended."))
        base = 20_000 + 1000 * self.number + 10 * list(self.running).index(name)
        ready = self.ready[name]
        ranks = tuple(
            Rank(one, "ready" if one in ready else "starting", self.address, base + one)
            for one in range(workload.replicas)
        )
        message = "No machine has 0.25 processors free." if self.full else ""
        state: State = "ready" if len(ready) == workload.replicas else "running" if ready else "pending"
        return Observed(state, generation, ranks, message=message)


class Sites:
    """Hosts "near" and "far" and a cluster, whose reconcilers run in the test's thread."""

    def __init__(self, world: World) -> None:
        self.world = world
        Place.objects.update(goal="stop", queue="none")
        Gateway.objects.update(queue="gateway")
        self.world.queues.append("gateway")
        self.by_place: dict[UUID, Site] = {}
        self.places: dict[str, Place] = {}
        self.lists: dict[int, list[dict[str, Any]]] = {}
        self.wrong: list[str] = []
        for number, name in enumerate(("near", "far")):
            host = Host.objects.create(name=name, cpus=4, memory_bytes=2**33, heartbeat_at=timezone.now())
            self._add(name, number, host=host, queue=host.queue)
        cluster = Cluster(workspace=world.workspace, name="cloud", provider="kubeconfig", queue="none")
        cluster = create(cluster, WINDLASS)
        self._add("cloud", 2, cluster=cluster, target="kubernetes", capacity={"cpus": 4, "memory_bytes": 2**33})

    def _add(self, name: str, number: int, **fields: Any) -> None:
        self.places[name] = place = create(Place(**fields), WINDLASS)
        self.by_place[place.pk] = Site(self, number)
        self.world.queues = sorted({*self.world.queues, place.queue})

    def stopping(self, name: str, ordinals: set[int]) -> None:
        """Nothing stops while a gateway may still send to it, by its present list or by the one that it works by.

        Not asserted here: the engine would take that for a mistake of the step, and try again.
        """
        placement = next(row for row in Placement.objects.all() if row.outside_name == name)
        for row in Deployment.objects.filter(pk=placement.owner_id):
            taken = min(gateway.applied.get(row.typed_id, 0) for gateway in Gateway.objects.filter(queue="gateway"))
            for item in [*row.listing, *self.lists.get(taken, [])]:
                mine = item["placement"] == str(placement.pk)
                if mine and ordinals & set(item["ordinals"]):
                    self.wrong.append(f"{placement.slot} was stopped while {item} was listed")

    def __getitem__(self, name: str) -> Site:
        return self.by_place[self.places[name].pk]

    def target_for(self, place: Place) -> Site:
        return self.by_place[place.pk]

    def spread(self, **parts: tuple[int, int]) -> dict[str, Any]:
        """`near=(replicas, weight)`: what a PATCH writes."""
        entries = [
            {"place": self.places[name].typed_id, "replicas": replicas, "weight": weight}
            for name, (replicas, weight) in parts.items()
        ]
        return {"spread": entries, "replicas": sum(replicas for replicas, _ in parts.values())}

    def look(self, name: str) -> None:
        wake("place", [self.places[name].pk])

    def lose(self, name: str) -> None:
        """No heartbeat for a minute; what ran there may go on."""
        host = self.places[name].host
        assert host
        self[name].silent = True
        with transaction.atomic():
            Host.objects.filter(pk=host.pk).update(lost_at=timezone.now())
            wake_owners([host.pk])

    def bring_back(self, name: str) -> None:
        from workers.host import come_back

        host = self.places[name].host
        assert host
        self[name].silent = False
        come_back(host.pk)

    def deploy(self, **spec: Any) -> Deployment:
        workspace = self.world.workspace
        row = Deployment(workspace=workspace, name="tiny", memory_bytes=2**28, **spec)
        row = create(row, WINDLASS)
        for number in (1, 2):
            Revision.objects.create(deployment=row, number=number, export=_export(workspace, number))
        return row

    def change(self, row: Deployment, **spec: Any) -> None:
        want(row, WINDLASS, spec=spec)

    # --- what is so --------------------------------------------------------------------------------------------------
    def listed(self, row: Deployment) -> dict[str, tuple[str, int, int]]:
        """By place: revision, weight and number of the replicas that the gateway may send to."""
        row.refresh_from_db()
        found = {}
        for item in row.listing:
            place = Placement.objects.get(pk=item["placement"]).place
            entry = (f"r{item['revision']}", item["weight"], len(item["ordinals"]))
            found[place.name if place.name not in found else f"{place.name}'"] = entry
        return found

    def answering(self, row: Deployment) -> list[str]:
        """Where the gateway would send requests now."""
        row.refresh_from_db()
        (route,) = routes([row])
        return [f"{one.address}:{one.port}" for backend in route.backends for one in backend.endpoints]

    def until(self, row: Deployment, true: Callable[[], object], answers: bool = True) -> None:
        """Go on until it is so. `answers`: there is not one moment without a replica that gets requests."""

        def there() -> bool:
            row.refresh_from_db()
            self.lists[row.listing_version] = row.listing
            assert not self.wrong, self.wrong
            assert not answers or self.answering(row), f"nobody answers: {row.listing} {row.message}"
            row.refresh_from_db()
            return bool(true())

        try:
            self.world.until(there, 15)
        except AssertionError as error:
            placements = list(Placement.objects.values_list("slot", "phase", "goal", "ready_ordinals", "message"))
            told = f"{error}: {row.phase} {row.reason} “{row.message}” {self.listed(row)} {placements}"
            raise AssertionError(told) from error

    def settled(self, row: Deployment, answers: bool = True) -> None:
        """It serves all that is wanted, and nothing else stands."""

        def there() -> bool:
            living = [item for item in Placement.objects.filter(owner_id=row.pk) if not item.is_final]
            done = (row.phase, row.reason, row.observed_generation) == ("serving", "Serving", row.generation)
            return done and len(living) == len(row.listing)

        self.until(row, there, answers)


def _export(workspace: Workspace, number: int) -> Export:
    model, _made = Model.objects.get_or_create(workspace=workspace, name="tiny")
    version = ModelVersion.objects.filter(model=model).first() or create(
        ModelVersion(workspace=workspace, model=model, number=1, phase="ready", due_at=None), WINDLASS
    )
    export = Export(
        workspace=workspace,
        model_version=version,
        number=number,
        phase="succeeded",
        due_at=None,
        file=blobs.store_bytes(workspace, f"model {number}".encode()),
        signature_file=blobs.store_bytes(workspace, json.dumps({}).encode()),
    )
    return create(export, WINDLASS)
