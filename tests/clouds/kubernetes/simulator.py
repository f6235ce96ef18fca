"""All of it in one thread, at an https address with certificates of a given authority; and the fixture `kube`."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import ssl
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp.web
import pytest
import yaml

from apps.core.certificates import Pair, issue, make_authority
from tests.clouds.kubernetes.api import Api
from tests.clouds.kubernetes.controllers import Controllers
from tests.clouds.kubernetes.kubelet import Kubelet
from tests.clouds.kubernetes.store import Store
from workers.targets.process import processes


@dataclass
class Faults:
    """`down`: connections break. `status`: every call is answered so. `image_pull`, `unschedulable`: why not."""

    down: bool = False
    delay_seconds: float = 0.0
    status: int = 0
    credentials_ended: bool = False
    image_pull: str = ""
    unschedulable: str = ""


class Kubernetes:
    """`server`: its address. `calls`: (method, path) of every request."""

    token = "a-token-of-the-simulator"
    backoff_seconds = 0.2

    def __init__(self, directory: Path, authority: Pair | None = None, cpus: str = "64", memory: str = "64Gi") -> None:
        self.authority = authority or make_authority("simulator")
        self.store, self.faults = Store(), Faults()
        self.calls: list[tuple[str, str]] = []
        self.evicted: dict[str, str] = {}
        self.lost: set[str] = set()
        self.kubelet, self._controllers = Kubelet(self, directory), Controllers(self)
        self._network = f"127.{random.randint(2, 250)}.{random.randint(0, 250)}"
        self._addresses: dict[tuple[str, ...], str] = {}
        self._loop, self.server = asyncio.new_event_loop(), ""
        allocatable = {"cpu": cpus, "memory": memory}
        ready = [{"type": "Ready", "status": "True"}]
        self.store.create(("namespaces", "", "default"), {"kind": "Namespace"})
        self.store.create(
            ("nodes", "", "node-1"), {"kind": "Node", "status": {"allocatable": allocatable, "conditions": ready}}
        )
        started = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(started),), daemon=True)
        self._thread.start()
        if not started.wait(10):
            raise RuntimeError("the simulator did not start")

    async def _serve(self, started: threading.Event) -> None:
        api = Api()
        api.simulator = self
        async with api:
            runner = aiohttp.web.ServerRunner(aiohttp.web.Server(api, access_log=None), shutdown_timeout=0.1)
            await runner.setup()
            site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls())
            await site.start()
            self.server = f"https://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            while not self._stopping.is_set():
                self._controllers.turn()
                self.kubelet.look()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), 0.05)
            await self.kubelet.stop()
            await runner.cleanup()

    def _tls(self) -> ssl.SSLContext:
        own = issue(self.authority, "kube-apiserver", names=["127.0.0.1", "localhost"], server=True, days=1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(own.certificate + own.key)
            file.flush()
            context.load_cert_chain(file.name)
        context.load_verify_locations(cadata=self.authority.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(20)
        self._loop.close()

    def kubeconfig(self, token: bool = False) -> str:
        def encoded(text: str) -> str:
            return base64.b64encode(text.encode()).decode()

        client = issue(self.authority, "windlass", organization="system:masters", server=False, days=1)
        certified = {"client-certificate-data": encoded(client.certificate), "client-key-data": encoded(client.key)}
        user = {"token": self.token} if token else certified
        cluster = {"server": self.server, "certificate-authority-data": encoded(self.authority.certificate)}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "sim",
                "clusters": [{"name": "sim", "cluster": cluster}],
                "users": [{"name": "sim", "user": user}],
                "contexts": [{"name": "sim", "context": {"cluster": "sim", "user": "sim"}}],
            }
        )

    # --- addresses -------------------------------------------------------------------------------------------------

    def address_of(self, pod: dict[str, Any]) -> str:
        meta, spec = pod["metadata"], pod["spec"]
        if spec.get("subdomain"):
            return self.address_by_name(meta["namespace"], spec["subdomain"], spec.get("hostname", meta["name"]))
        return self._address(meta["uid"])

    def address_by_name(self, namespace: str, subdomain: str, hostname: str) -> str:
        return self._address(namespace, subdomain, hostname)

    def _address(self, *key: str) -> str:
        return self._addresses.setdefault(key, f"{self._network}.{len(self._addresses) + 1}")

    # --- what a test asks and does ---------------------------------------------------------------------------------

    def objects(self, plural: str, namespace: str | None = None) -> list[dict[str, Any]]:
        return self._do(self._objects(plural, namespace))

    async def _objects(self, plural: str, namespace: str | None) -> list[dict[str, Any]]:
        return self.store.all(plural, namespace)

    def oom(self, pod: str, container: str = "program") -> None:
        """As the kernel does: everything in that container of the pods so named is killed."""

        async def act() -> None:
            for item in self.store.all("pods"):
                if item["metadata"]["name"].startswith(pod):
                    self.kubelet.oom.add((item["metadata"]["uid"], container))
                    self.kubelet.kill(item["metadata"]["uid"], container)

        self._do(act())

    def evict(self, pod: str, why: str = "The node was low on resource: memory.") -> None:
        async def act() -> None:
            for item in self.store.all("pods"):
                if item["metadata"]["name"].startswith(pod):
                    self.evicted[item["metadata"]["uid"]] = why

        self._do(act())

    def lose_node(self, name: str = "node-1") -> None:
        """Its processes are gone and its kubelet says no more: pods are marked to go, and stay until it is back."""

        async def act() -> None:
            self.lost.add(name)
            self._tell_node(name, "Unknown")
            for item in self.store.all("pods"):
                if item["spec"].get("nodeName") == name and item["status"].get("phase") == "Running":
                    key = ("pods", item["metadata"]["namespace"], item["metadata"]["name"])
                    self.kubelet.abandon(item["metadata"]["uid"])
                    why = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
                    self.store.status(key, conditions=[{"type": "Ready", "status": "False"}, why])
                    self.store.delete(key, {})

        self._do(act())

    def restore_node(self, name: str = "node-1") -> None:
        """It is back, without what ran there."""

        async def act() -> None:
            self.lost.discard(name)
            self._tell_node(name, "True")
            for item in self.store.all("pods"):
                if item["spec"].get("nodeName") == name and item["metadata"].get("deletionTimestamp"):
                    self.store.status(("pods", item["metadata"]["namespace"], item["metadata"]["name"]), phase="Failed")

        self._do(act())

    def _tell_node(self, name: str, ready: str) -> None:
        self.store.status(("nodes", "", name), conditions=[{"type": "Ready", "status": ready}])

    def _do(self, act: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(act, self._loop).result(10)


@pytest.fixture
def kube() -> Iterator[Kubernetes]:
    directory = Path(tempfile.mkdtemp(prefix="windlass-kube-"))
    simulator = Kubernetes(directory)
    yield simulator
    simulator.close()
    left = [pid for pid in processes.parents() if _inside(pid, directory)]
    processes.kill(left)
    shutil.rmtree(directory, ignore_errors=True)


def _inside(pid: int, directory: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(str(directory))
    except OSError:
        return False
