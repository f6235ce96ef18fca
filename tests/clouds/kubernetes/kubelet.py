"""Runs pods: volumes as folders, containers as processes, and what became of them as status."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.clouds.kubernetes.store import Key, now
from workers.targets.process import processes

ROOT = Path(__file__).resolve().parents[3]
SIZES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}


def quantity(text: str) -> float:
    for suffix, factor in SIZES.items():
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    return float(text)


class Kubelet:
    """`logs`: by (uid of the pod, container), of the container that runs or ran last."""

    def __init__(self, simulator: Any, directory: Path) -> None:
        self.simulator, self.store, self.directory = simulator, simulator.store, directory
        self.logs: dict[tuple[str, str], bytearray] = {}
        self.running: dict[str, dict[str, asyncio.subprocess.Process]] = {}
        self.oom: set[tuple[str, str]] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def log(self, uid: str, container: str) -> bytearray | None:
        return self.logs.get((uid, container))

    def look(self) -> None:
        """Take charge of pods that have a node and nobody."""
        for pod in self.store.all("pods"):
            uid = pod["metadata"]["uid"]
            if pod["spec"].get("nodeName") and uid not in self._tasks:
                key = ("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
                self._tasks[uid] = asyncio.create_task(self._run(key, uid))

    async def stop(self) -> None:
        for uid in list(self.running):
            self.kill(uid)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def kill(self, uid: str, container: str = "") -> None:
        for name, process in list(self.running.get(uid, {}).items()):
            if container in ("", name):
                processes.kill(processes.descendants([process.pid]))

    def abandon(self, uid: str) -> None:
        """The node is lost: everything of the pod is gone, and nobody tells it."""
        self._tasks[uid].cancel()
        self.kill(uid)

    async def _run(self, key: Key, uid: str) -> None:
        try:
            await Running(self, key, uid).live()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a test must see why nothing happens
            print(f"kubelet: {key}: {type(error).__name__}: {error}", file=sys.stderr)
            raise


class Running:
    """One pod, from its node to its end."""

    def __init__(self, kubelet: Kubelet, key: Key, uid: str) -> None:
        self.kubelet, self.store, self.key, self.uid = kubelet, kubelet.store, key, uid
        self.folder = kubelet.directory / uid
        self.spec = self.pod["spec"]
        self.ip = kubelet.simulator.address_of(self.pod)
        self.states: dict[str, dict[str, Any]] = {}
        self.restarts: dict[str, int] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.ready: dict[str, bool] = {}
        self.first = [one["name"] for one in self.spec.get("initContainers", ())]
        self.names = [one["name"] for one in self.spec["containers"]]
        self.evicted = ""

    @property
    def pod(self) -> dict[str, Any]:
        found: dict[str, Any] = self.store.get(self.key)
        return found

    @property
    def going(self) -> bool:
        item = self.store.objects.get(self.key)
        gone = item is None or item["metadata"]["uid"] != self.uid
        return gone or bool(item["metadata"].get("deletionTimestamp")) or self.uid in self.kubelet.simulator.evicted

    def tell(self, phase: str = "") -> None:
        item = self.store.objects.get(self.key)
        if item is None or item["metadata"]["uid"] != self.uid:
            return

        def status(name: str) -> dict[str, Any]:
            found = {
                "name": name,
                "state": self.states.get(name, {"waiting": {"reason": "PodInitializing"}}),
                "restartCount": self.restarts.get(name, 0),
                "ready": self.ready.get(name, False),
            }
            return found | ({"lastState": self.last[name]} if name in self.last else {})

        good = bool(self.names) and all(self.ready.get(name) for name in self.names)
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if good else "False"},
        ]
        changes: dict[str, Any] = {
            "phase": phase or item["status"].get("phase", "Pending"),
            "podIP": self.ip,
            "hostIP": "127.0.0.1",
            "conditions": conditions,
            "initContainerStatuses": [status(name) for name in self.first],
            "containerStatuses": [status(name) for name in self.names],
        }
        if self.uid in self.kubelet.simulator.evicted:
            changes |= {"reason": "Evicted", "message": self.kubelet.simulator.evicted[self.uid]}
        self.store.status(self.key, **changes)

    async def live(self) -> None:
        self.folder.mkdir()
        self.tell("Pending")
        volumes = await self._volumes()
        if await self._pulled():
            for one in self.spec.get("initContainers", ()):
                if self.going or await self._container(one, volumes) != 0:
                    break
            else:
                if not self.going:
                    self.tell("Running")
                    async with self._ports_of_the_node():
                        await asyncio.gather(*(self._keep(one, volumes) for one in self.spec["containers"]))
        codes = [self.states.get(name, {}).get("terminated", {}).get("exitCode", 1) for name in self.names]
        self.ready = {}
        self.tell("Succeeded" if not any(codes) else "Failed")
        item = self.store.objects.get(self.key)
        if item is not None and item["metadata"]["uid"] == self.uid:
            self.store.keep(self.key, item)  # where it was only waiting for its end, it goes now

    @asynccontextmanager
    async def _ports_of_the_node(self) -> AsyncIterator[None]:
        """A hostPort leads to the pod for as long as it lives."""
        wanted = [port for one in self.spec["containers"] for port in one.get("ports", ()) if "hostPort" in port]
        servers = []
        for port in wanted:
            forward = partial(self._forward, port["containerPort"])
            servers.append(await asyncio.start_server(forward, "127.0.0.1", port["hostPort"]))
        try:
            yield
        finally:
            for server in servers:
                server.close()

    async def _forward(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            target.close()

        try:
            inner, outer = await asyncio.open_connection(self.ip, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, outer), copy(inner, writer))

    async def _volumes(self) -> dict[str, Path]:
        found = {}
        for volume in self.spec.get("volumes", ()):
            path = self.folder / "volumes" / volume["name"]
            path.mkdir(parents=True)
            found[volume["name"]] = path
            if "secret" in volume:
                secret = ("secrets", self.key[1], volume["secret"]["secretName"])
                while secret not in self.store.objects and not self.going:
                    await asyncio.sleep(0.05)
                for name, value in self.store.objects.get(secret, {}).get("data", {}).items():
                    (path / name).write_bytes(
                        self._resolved(base64.b64decode(value).decode("latin-1")).encode("latin-1")
                    )
        return found

    async def _pulled(self) -> bool:
        faults = self.kubelet.simulator.faults
        while faults.image_pull and not self.going:
            for name in (*self.first, *self.names):
                self.states[name] = {"waiting": {"reason": "ImagePullBackOff", "message": faults.image_pull}}
            self.tell()
            await asyncio.sleep(0.05)
        self.states = {}
        return not self.going

    def _resolved(self, text: str) -> str:
        subdomain = self.spec.get("subdomain")
        if not subdomain:
            return text
        simulator, namespace = self.kubelet.simulator, self.key[1]
        pattern = re.compile(rf"([a-z0-9-]+)\.{re.escape(subdomain)}\b")
        return pattern.sub(lambda match: simulator.address_by_name(namespace, subdomain, match[1]), text)

    def _root(self, container: dict[str, Any], volumes: dict[str, Path]) -> tuple[Path, list[str]]:
        """The folder that stands for the container's root, and the paths that lie there."""
        root = self.folder / container["name"]
        (root / "dev").mkdir(parents=True, exist_ok=True)
        known = ["/dev/termination-log"]
        for mount in container.get("volumeMounts", ()):
            source = volumes[mount["name"]] / mount.get("subPath", "")
            source.mkdir(exist_ok=True)
            target = root / mount["mountPath"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink():
                target.symlink_to(source)
            known += [mount["mountPath"], os.path.dirname(mount["mountPath"])]
        (root / "dev" / "termination-log").write_bytes(b"")
        return root, [path for path in known if path not in ("/", "/dev")]

    def _environment(self, container: dict[str, Any], root: Path, known: list[str]) -> dict[str, str]:
        given = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        for one in container.get("env", ()):
            value = one.get("value", "")
            if "valueFrom" in one:
                value = self._field(one["valueFrom"]["fieldRef"]["fieldPath"])
            if any(value == path or value.startswith(f"{path}/") for path in known):
                value = f"{root}{value}"
            given[one["name"]] = self._resolved(value)
        return given

    def _field(self, path: str) -> str:
        meta = self.pod["metadata"]
        if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
            return str(meta.get(match[1], {}).get(match[2], ""))
        return str({"status.podIP": self.ip, "metadata.name": meta["name"]}[path])

    async def _keep(self, container: dict[str, Any], volumes: dict[str, Path]) -> None:
        """Run it, and again where that is its policy."""
        name, wait = container["name"], self.kubelet.simulator.backoff_seconds
        while True:
            await self._container(container, volumes)
            if self.spec.get("restartPolicy") == "Never" or self.going:
                return
            self.last[name] = self.states[name]
            self.restarts[name] = self.restarts.get(name, 0) + 1
            words = f"back-off restarting failed container {name}"
            self.states[name] = {"waiting": {"reason": "CrashLoopBackOff", "message": words}}
            self.tell()
            await asyncio.sleep(wait)
            if self.going:
                self.states[name] = self.last[name]
                return
            wait = min(2 * wait, 30)

    async def _container(self, container: dict[str, Any], volumes: dict[str, Path]) -> int:
        name = container["name"]
        root, known = self._root(container, volumes)
        argv = [*container.get("command", ()), *container.get("args", ())]
        argv[0] = sys.executable if argv[0] == "python" else argv[0]
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=self._environment(container, root, known),
            cwd=root,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        began = now()
        log = self.kubelet.logs[self.uid, name] = bytearray()
        self.kubelet.running.setdefault(self.uid, {})[name] = process
        self.states[name] = {"running": {"startedAt": began}}
        self.ready[name] = not any(kind in container for kind in ("readinessProbe", "startupProbe"))
        self.tell()
        helpers = [
            asyncio.create_task(helper)
            for helper in (
                self._end(process),
                self._bury(process),
                self._watch(container, process),
                self._probe(container),
            )
        ]
        assert process.stdout
        try:
            while data := await process.stdout.read(65536):
                log += data
            code = await process.wait()
        finally:
            for helper in helpers:
                helper.cancel()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.kubelet.running[self.uid].pop(name, None)
        oom = (self.uid, name) in self.kubelet.oom
        self.kubelet.oom.discard((self.uid, name))
        ended: dict[str, Any] = {
            "exitCode": code if code >= 0 else 128 - code,
            "reason": "OOMKilled" if oom else "Completed" if code == 0 else "Error",
            "startedAt": began,
            "finishedAt": now(),
        }
        if said := (root / "dev" / "termination-log").read_bytes()[:4096]:
            ended["message"] = said.decode(errors="replace")
        self.states[name] = {"terminated": ended}
        self.ready[name] = False
        self.tell()
        return int(ended["exitCode"])

    async def _bury(self, process: asyncio.subprocess.Process) -> None:
        """With a container's first process all of it ends."""
        while process.returncode is None:  # wait() would wait for its output too, which its children may hold
            await asyncio.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM when the pod is deleted, SIGKILL when its grace time is over."""
        while not self.going:
            await asyncio.sleep(0.05)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        waited = 0.0
        while True:
            await asyncio.sleep(0.05)
            waited += 0.05
            item = self.store.objects.get(self.key)
            grace = 0.0 if item is None else item["metadata"].get("deletionGracePeriodSeconds", 0)
            if waited >= grace:
                processes.kill(processes.descendants([process.pid]))
                return

    async def _watch(self, container: dict[str, Any], process: asyncio.subprocess.Process) -> None:
        """The limit on memory, as the kernel keeps it: all of the container is killed."""
        limit = container.get("resources", {}).get("limits", {}).get("memory")
        while limit:
            await asyncio.sleep(0.5)
            pids = processes.descendants([process.pid])
            if processes.memory_bytes(pids, int(quantity(limit))) > quantity(limit):
                self.kubelet.oom.add((self.uid, container["name"]))
                processes.kill(pids)
                return

    async def _probe(self, container: dict[str, Any]) -> None:
        probe = container.get("readinessProbe")
        misses = 0
        while probe:
            good = await self._asked(probe["httpGet"], probe.get("timeoutSeconds", 1))
            misses = 0 if good else misses + 1
            if good or misses >= probe.get("failureThreshold", 3):
                self.ready[container["name"]] = good
                self.tell()
            await asyncio.sleep(probe.get("periodSeconds", 10) if good else 0.2)

    async def _asked(self, get: dict[str, Any], timeout_seconds: float) -> bool:
        try:
            async with asyncio.timeout(timeout_seconds):
                reader, writer = await asyncio.open_connection(self.ip, get["port"])
                writer.write(f"GET {get['path']} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
                writer.close()
                return line.split(b" ")[1:2] == [b"200"]
        except (OSError, TimeoutError):
            return False
