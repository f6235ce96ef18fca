"""The `kubernetes` target: a placement is a few objects in one namespace of a cluster.

A ConfigMap of the placement's name is its card: made by a plain create, which only one can win, it says whose the name
is; everything else belongs to it (by uid) and goes with it. Deleting replaces the card by a tombstone. So a late apply
either finds the tombstone, or makes objects of a card that is gone, which Kubernetes itself collects.

Nothing is kept between calls but connections, and what is only for thrift: when something was last listed.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from apps.placements.observation import Observed
from apps.placements.workload import Resources, Workload
from workers.targets.contract import Capacity, Chunk, Conflict, Grants, Owned, Refused, Unavailable
from workers.targets.kubernetes import manifests, observing
from workers.targets.kubernetes.client import Client, Missing
from workers.targets.kubernetes.manifests import (
    CARRYING_SECONDS,
    COST,
    GENERATION,
    KEPT,
    PLACEMENT,
    STOPPED,
    TOMBSTONE,
    Surroundings,
)
from workers.targets.kubernetes.paths import Paths
from workers.targets.kubernetes.pods import Pod
from workers.targets.kubernetes.reading import read_log

CALL_SECONDS, END_SECONDS = 9.0, 5.0
TOMBSTONE_SECONDS = 7 * 24 * 3600.0
SWEEP_SECONDS, OWNED_SECONDS = 3600.0, 300.0


@dataclass(frozen=True)
class Wanted:
    """What a place's rows want of a name there: `count` pods."""

    kind: str
    count: int


@dataclass
class There:
    """One cluster as this process knows it."""

    client: Client
    at: Paths
    around: Surroundings
    unwanted: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    swept_at: float = 0.0
    listed_at: float = 0.0

    @property
    def selector(self) -> str:
        mine = f"{manifests.INSTALLATION}={self.around.installation}"
        return f"app.kubernetes.io/managed-by=windlass,{mine}"


class KubernetesTarget:
    """`connect` makes a client for a place; `wanted` tells what its rows want there; `scale`: of waiting times."""

    def __init__(
        self,
        installation: str,
        image: str,
        connect: Callable[[Any], Client],
        wanted: Callable[[Any], dict[str, Wanted]],
        scale: float = 1.0,
    ) -> None:
        self._installation, self._image, self._scale = installation, image, scale
        self._connect, self._wanted = connect, wanted
        self._known: dict[tuple[Any, ...], There] = {}

    def _there(self, place: Any) -> There:
        """Its connection, and from now on the time of one call of the contract."""
        cluster = place.cluster
        credentials = (cluster.kubeconfig, cluster.credentials, str(cluster.access), cluster.namespace, cluster.reach)
        key = (place.pk, os.getpid(), credentials)
        there = self._known.get(key)
        if there is None:
            for old in [old for old in self._known if old[0] == place.pk]:
                del self._known[old]
            try:
                client = self._connect(place)
            except ValueError as error:
                raise Unavailable(str(error)) from error
            around = Surroundings(cluster.namespace, self._installation, self._image, cluster.reach)
            there = self._known[key] = There(client, Paths(cluster.namespace), around)
        there.client.budget(CALL_SECONDS)
        return there

    def capacity(self, place: Any, resources: Resources) -> Capacity:
        total = place.total
        if resources.cpus > total.cpus or resources.memory_bytes > total.memory_bytes or resources.gpus > total.gpus:
            return Capacity(False, f"It needs more than {place.name} has in all.")
        return Capacity(True)

    # --- making and changing ---------------------------------------------------------------------------------------

    def apply(self, place: Any, workload: Workload, generation: int, secrets: dict[str, bytes], grants: Grants) -> None:
        _check(workload)
        there = self._there(place)
        card = self._card(there, workload, generation)
        around = replace(there.around, owner=card["metadata"]["uid"])
        try:
            name = workload.name
            content = manifests.secret(workload, generation, secrets, grants, around)
            there.client.apply(there.at.secret(name), content)
            if card["data"].get("made"):
                self._change(there, workload, generation)
            else:
                for item in manifests.others(workload, generation, around):
                    path = there.at.of(item)
                    if item["kind"] in ("Job", "Deployment") and _find(there.client, path):
                        continue  # one that was killed here had made it already
                    there.client.apply(path, item)
            data = {"made": "yes", "generation": str(generation)}
            if card["data"] != card["data"] | data:
                there.client.patch(there.at.card(name), {"data": data, "metadata": {"uid": around.owner}})
            left = there.client.get(there.at.card(name))
        except Missing as error:
            raise Conflict(f"{workload.name} was deleted meanwhile: {error}") from error
        if left["metadata"]["uid"] != around.owner:
            self._remove(there, workload.name)
            raise Conflict(f"{workload.name} was deleted meanwhile; a new attempt needs a new name.")

    def _card(self, there: There, workload: Workload, generation: int) -> dict[str, Any]:
        """Whose the name is: ours from now on, or as it was."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": manifests.metadata(workload, generation, there.around),
            "data": {"digest": workload.digest, "generation": str(generation)},
        }
        try:
            return self._create(there, there.at.cards, body)
        except Conflict:
            pass
        try:
            card = there.client.get(there.at.card(workload.name))
        except Missing as error:
            raise Unavailable(f"{workload.name} is being deleted.") from error
        data = card.setdefault("data", {})
        if TOMBSTONE in (card["metadata"].get("labels") or {}):
            raise Conflict(f"{workload.name} was deleted there; a new attempt needs a new name.")
        if data.get("digest") != workload.digest:
            raise Conflict(f"{workload.name} is already another workload there; only its replicas may change.")
        if int(data.get("generation") or 0) > generation:
            raise Conflict(f"{workload.name} is at generation {data['generation']} there; {generation} is too late.")
        return card

    def _create(self, there: There, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """With its namespace, where that is not there yet."""
        try:
            return there.client.create(path, body)
        except Missing:
            pass
        levels = {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}
        meta = {"name": there.around.namespace, "labels": {"app.kubernetes.io/managed-by": "windlass", **levels}}
        if there.around.reach == "nodes":  # a port of the machine is no part of the baseline
            meta["labels"] = {"app.kubernetes.io/managed-by": "windlass"}
        there.client.apply(there.at.itself, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        return there.client.create(path, body)

    def _change(self, there: There, workload: Workload, generation: int) -> None:
        """Only the number of copies may differ. What somebody took away by hand is not made again: it is gone."""
        change: dict[str, Any] = {"metadata": {"annotations": {GENERATION: str(generation)}}}
        if workload.kind == "job":
            if _find(there.client, there.at.job(workload.name)):
                there.client.patch(there.at.job(workload.name), change)
            return
        path = there.at.deployment(workload.name)
        found = _find(there.client, path)
        if found is None:
            return
        if STOPPED not in (found["metadata"].get("annotations") or {}):
            if workload.replicas < int(found["spec"].get("replicas", 1)):
                self._cheapen(there, workload.name, workload.replicas)
            change["spec"] = {"replicas": workload.replicas}
        there.client.patch(path, change)

    def _cheapen(self, there: There, name: str, replicas: int) -> None:
        """The highest ordinals go first."""
        pods = self._pods_of(there, name)
        for ordinal, pod in enumerate(pods):
            if ordinal >= replicas and not pod.going:
                body = {"metadata": {"annotations": {COST: str(-1000 - ordinal)}}}
                try:
                    there.client.patch(there.at.pod(pod.name), body)
                except Missing:
                    continue

    def stop(self, place: Any, name: str, grace_seconds: float) -> None:
        """A job is suspended: its pods end and, by their finalizer, stay to be read. A service gets no replicas."""
        there = self._there(place)
        with _tried_again():
            self._stop(there, name, grace_seconds)

    def _stop(self, there: There, name: str, grace_seconds: float) -> None:
        for path, change in (
            (there.at.job(name), {"spec": {"suspend": True}}),
            (
                there.at.deployment(name),
                {"metadata": {"annotations": {STOPPED: str(int(time.time()))}}, "spec": {"replicas": 0}},
            ),
        ):
            found = _find(there.client, path)
            if found is None:
                continue
            there.client.patch(path, change)
            usual = float(found["spec"]["template"]["spec"].get("terminationGracePeriodSeconds") or 0)
            if grace_seconds + CARRYING_SECONDS < usual:
                self._end_pods(there, name, grace_seconds)

    def _end_pods(self, there: There, name: str, grace_seconds: float, release: bool = False) -> list[Pod]:
        """End them within that time; `release`: and let go those that ended. Returns those that are still there."""
        pods = self._pods_of(there, name)
        for pod in pods:
            try:
                if not (pod.going and pod.ended):
                    there.client.delete(there.at.pod(pod.name), gracePeriodSeconds=max(1, math.ceil(grace_seconds)))
                elif release and KEPT in pod.finalizers:
                    rest = [one for one in pod.finalizers if one != KEPT]
                    there.client.patch(there.at.pod(pod.name), {"metadata": {"finalizers": rest}})
            except (Missing, Conflict):
                continue
        return pods

    # --- taking away -----------------------------------------------------------------------------------------------

    def delete(self, place: Any, name: str) -> None:
        """Raises Unavailable until nothing of it is left."""
        there = self._there(place)
        with _tried_again():
            self._delete(there, name)

    def _delete(self, there: There, name: str) -> None:
        self._bury(there, name)
        self._remove(there, name)
        ends = time.monotonic() + END_SECONDS
        while left := self._end_pods(there, name, 0, release=True):
            if time.monotonic() > ends:
                raise Unavailable(f"{len(left)} of its pods have not ended yet, among them {left[0].name}.")
            time.sleep(0.25)
        self._sweep(there)

    def _bury(self, there: There, name: str) -> None:
        path = there.at.card(name)
        card = _find(there.client, path)
        if card and TOMBSTONE in (card["metadata"].get("labels") or {}):
            return
        if card:
            there.client.delete(path, preconditions={"uid": card["metadata"]["uid"]}, propagationPolicy="Background")
        labels = {**manifests.labels(name, there.around.installation), TOMBSTONE: "yes"}
        meta = {"name": name, "namespace": there.around.namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"at": str(int(time.time()))}}
        try:
            self._create(there, there.at.cards, body)
        except Conflict as error:
            raise Unavailable(f"{name} was changed meanwhile.") from error

    def _remove(self, there: There, name: str) -> None:
        for path in (there.at.job(name), there.at.deployment(name)):
            there.client.delete(path, propagationPolicy="Foreground")
        for path in (there.at.budget(name), there.at.service(name), there.at.secret(name)):
            there.client.delete(path)

    def _sweep(self, there: There) -> None:
        """Forget tombstones that nobody can need any more, once in an hour."""
        if time.time() - there.swept_at < SWEEP_SECONDS:
            return
        there.swept_at = time.time()
        cards, _version = there.client.list(there.at.cards, f"{there.selector},{TOMBSTONE}")
        for card in cards:
            if float((card.get("data") or {}).get("at") or 0) < time.time() - TOMBSTONE_SECONDS:
                there.client.delete(there.at.card(card["metadata"]["name"]))

    # --- looking ---------------------------------------------------------------------------------------------------

    def observe(self, place: Any) -> dict[str, Observed]:
        """One list of pods; two more, of Jobs and Deployments, only where the pods alone don't say all."""
        there, wanted = self._there(place), self._wanted(place)
        items, version = there.client.list(there.at.pods, there.selector)
        place.resource_version = version[:40]
        pods = observing.by_placement(items)
        still = all(
            observing.steady(pods.get(name, []), want.count, want.kind == "job") for name, want in wanted.items()
        )
        jobs: dict[str, dict[str, Any]] = {}
        deployments: dict[str, dict[str, Any]] = {}
        if not still or pods.keys() - wanted.keys():
            jobs = {item["metadata"]["name"]: item for item in there.client.list(there.at.jobs, there.selector)[0]}
            listed, _version = there.client.list(there.at.deployments, there.selector)
            deployments = {item["metadata"]["name"]: item for item in listed}
        sight = observing.Sight(there.around.reach, time.time(), self._scale)
        there.wanted, there.unwanted = set(wanted), (pods.keys() | jobs.keys() | deployments.keys()) - wanted.keys()
        seen = {}
        for name in pods.keys() | jobs.keys() | deployments.keys():
            own, want = pods.get(name, []), wanted.get(name)
            if name in deployments or (want and want.kind == "service"):
                seen[name] = observing.observe_service(name, own, deployments.get(name), sight)
            else:
                seen[name] = observing.observe_job(name, own, jobs.get(name), sight, want.count if want else 1)
        return seen

    def logs(self, place: Any, name: str, stream: str, offset: int, limit: int) -> Chunk:
        """Raises FileNotFoundError for a stream that isn't there."""
        there = self._there(place)
        return read_log(there.client, there.at, self._pods_of(there, name), name, stream, offset, limit)

    def publish(self, place: Any, name: str, file: str, content: bytes) -> None:
        """Nothing: replicas there pull theirs."""

    def list_owned(self, place: Any) -> Iterable[Owned]:
        """What the last `observe` saw and no row wants; every few minutes also what has no pod or controller left."""
        there = self._there(place)
        names = set(there.unwanted)
        if time.time() - there.listed_at > OWNED_SECONDS:
            there.listed_at = time.time()
            with contextlib.suppress(Unavailable):  # what was left over can wait
                cards, _version = there.client.list(there.at.cards, f"{there.selector},!{TOMBSTONE}")
                names |= {card["metadata"]["name"] for card in cards} - there.wanted
        return [Owned(name, True) for name in sorted(names)]

    def _pods_of(self, there: There, name: str) -> list[Pod]:
        items, _version = there.client.list(there.at.pods, f"{there.selector},{PLACEMENT}={name}")
        return observing.by_placement(items).get(name, [])


@contextlib.contextmanager
def _tried_again() -> Iterator[None]:
    """Whoever takes something away never gives up, whatever is said against it."""
    try:
        yield
    except (Conflict, Missing) as error:
        raise Unavailable(str(error)) from error


def _find(client: Client, path: str) -> dict[str, Any] | None:
    try:
        return client.get(path)
    except Missing:
        return None


def _check(workload: Workload) -> None:
    if workload.runtime != "windlass":
        words = f"Clusters have no runtime “{workload.runtime}”: they run programs of the runtime “windlass” only."
        raise Refused("UnknownRuntime", words)
    if workload.trust == "uploaded":
        words = "A cluster can't keep an uploaded script apart from the network. Choose a host, or use a recipe."
        raise Refused("NoCage", words)
