"""The `process` target: workloads on this machine, each under a shim of its own.

    <directory>/workloads/<name>/   see files.py
    <directory>/tombstones/<name>   deleted: the name can't come back
    <directory>/trash/              directories being removed
    <directory>/lock                held while a workload is made, changed or deleted (milliseconds)

A worker may die between any two lines here: a directory appears whole by a rename, the shim alone starts programs,
and the shim's lock says whether there is one. A workload whose shim died without an end is reported `unknown`, and
`observe` starts the next shim, which finishes a job as killed and starts a service's replicas again. Only a
workload that the product itself stopped (`stop_all`) waits for `recover` or `apply`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import re
import select
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from apps.placements.observation import Observed
from apps.placements.workload import Resources, Workload
from workers.crashpoints import point
from workers.targets.contract import Capacity, Chunk, Conflict, Grants, Owned, Refused, Unavailable
from workers.targets.process import cage, limits
from workers.targets.process.clearing import await_end, has_ended, kill_leftovers, kill_shim, remove_tree
from workers.targets.process.files import (
    FOLDERS,
    Damaged,
    Spec,
    Stop,
    WorkloadFiles,
    open_untrusted,
    write_whole,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
TOMBSTONE_SECONDS = 7 * 24 * 3600.0
SHIM = ("-S", "-E", "-m", "workers.targets.process.shim")
LOCK_SECONDS, START_SECONDS, END_SECONDS, REVIVE_SECONDS = 4.0, 5.0, 4.0, 4.0


class ProcessTarget:
    """`address`: where replicas' ports are bound. `allow_uncaged`: run uploaded scripts even without a cage."""

    def __init__(self, directory: Path, address: str = "127.0.0.1", allow_uncaged: bool = False) -> None:
        self.directory = Path(directory)
        self._address = address
        self._allow_uncaged = allow_uncaged
        for name in ("workloads", "tombstones", "trash"):
            (self.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def capacity(self, place: Any, resources: Resources) -> Capacity:
        """Whether there is that much free disk and memory just now, whatever is reserved by others."""
        free_disk = shutil.disk_usage(self.directory).free
        if free_disk < resources.disk_bytes:
            return Capacity(
                False,
                f"It needs {limits.gibibytes(resources.disk_bytes)} of disk, and {limits.gibibytes(free_disk)} are "
                f"free at {self.directory}.",
            )
        free_memory = _free_memory_bytes()
        if free_memory < resources.memory_bytes:
            return Capacity(
                False,
                f"It needs {limits.gibibytes(resources.memory_bytes)} of memory, and {limits.gibibytes(free_memory)} "
                f"are free on this machine.",
            )
        return Capacity(True)

    def apply(self, place: Any, workload: Workload, generation: int, secrets: dict[str, bytes], grants: Grants) -> None:
        self._check(workload)
        files = self._files(workload.name)
        spec = Spec(workload, generation, self._address, cage.executable())
        with self._locked():
            point("process.apply.before")
            if (self.directory / "tombstones" / workload.name).exists():
                raise Conflict(f"{workload.name} was deleted on this host; a new attempt needs a new name.")
            try:
                before = files.read_spec()
            except Damaged as error:
                raise Conflict(f"{error} Delete it; a new attempt needs a new name.") from error
            if before is None:
                self._make(files, spec, secrets, grants)
            else:
                self._change(files, spec, before)
                if not files.shim_pid() and not has_ended(files):
                    write_whole(files.path / "grants.json", grants.to_json())  # those that it had may have expired
            point("process.apply.sent")
            if not has_ended(files):
                self._start(files)
            point("process.apply.answered")

    def observe(self, place: Any) -> dict[str, Observed]:
        """Reads files and asks locks, nothing more; it starts a shim only where one died (see above)."""
        seen, orphaned = {}, []
        for name in self._names():
            files = self._files(name)
            alive = files.shim_pid() != 0  # asked first: a shim that ends now has written its end before
            try:
                spec, status = files.read_spec(), files.read_status()
            except Damaged as error:
                seen[name] = Observed("unknown", message=str(error))
                continue
            if spec is None:
                continue
            if status and (alive or status.final or status.phase == "paused"):
                observed = dataclasses.replace(status.observed, generation=spec.generation)
            elif alive:
                observed = Observed("pending", spec.generation, message="It is starting.")
            else:
                observed = Observed("unknown", spec.generation, message="Its watcher died; another one takes over.")
                orphaned.append(name)
            seen[name] = dataclasses.replace(observed, log_bytes={**files.stream_bytes(spec.stream_bytes)})
        for name, problem in self._revive(orphaned, REVIVE_SECONDS).items():
            seen[name] = dataclasses.replace(seen[name], message=problem)
        return seen

    def recover(self) -> list[str]:
        """Give every workload that has not ended a shim: after a reboot, a kill, or a stop of the product.

        Called when the host's worker starts. Returns the names of those that had none.
        """
        names = [
            name for name in self._names() if not self._files(name).shim_pid() and not has_ended(self._files(name))
        ]
        self._revive(names, None)
        return names

    def stop(self, place: Any, name: str, grace_seconds: float) -> None:
        files = self._files(name)
        with self._locked():
            point("process.stop.before")
            if not files.path.is_dir() or has_ended(files):
                return
            files.request_stop(Stop(grace_seconds))
            point("process.stop.sent")
            if not self._buried(name):
                self._start(files)
            point("process.stop.answered")

    def delete(self, place: Any, name: str) -> None:
        """Stops it first, at once, if it still runs. Raises Unavailable if it doesn't end."""
        files = self._files(name)
        with self._locked():
            point("process.delete.before")
            write_whole(self.directory / "tombstones" / name, b"", durable=True)
            if files.path.is_dir():
                files.request_stop(Stop(0.0, discard=True))
        point("process.delete.sent")
        if files.path.is_dir():
            await_end([files], END_SECONDS)
            if files.shim_pid():
                kill_shim(files)
            with self._locked():
                if files.shim_pid():
                    raise Unavailable(f"{name} does not end; it is tried again.")
                kill_leftovers(files)
                with contextlib.suppress(FileNotFoundError):  # another delete was faster
                    os.rename(files.path, self.directory / "trash" / f"{name}.{uuid.uuid4().hex}")
        self._sweep()
        point("process.delete.answered")

    def logs(self, place: Any, name: str, stream: str, offset: int, limit: int) -> Chunk:
        """The answer may begin later than asked: of a service's streams only the last part is kept.

        Raises FileNotFoundError for a workload or stream that isn't there.
        """
        descriptor = open_untrusted(self._files(name).stream(stream))
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)  # past what a long-lived stream no longer keeps
            data = os.pread(descriptor, limit, start)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return Chunk(b"", offset, offset)  # at the end
        finally:
            os.close(descriptor)
        return Chunk(data, start, start + len(data))

    def publish(self, place: Any, name: str, file: str, content: bytes) -> None:
        """Nothing happens where the workload is gone meanwhile."""
        if not NAME.fullmatch(file):
            raise ValueError(f"{file!r} is no file name.")
        with contextlib.suppress(FileNotFoundError):
            write_whole(self._files(name).path / "live" / file, content, 0o644)

    def list_owned(self, place: Any) -> Iterable[Owned]:
        return [Owned(name, has_ended(self._files(name))) for name in self._names()]

    def _files(self, name: str) -> WorkloadFiles:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no workload's name.")
        return WorkloadFiles(self.directory / "workloads" / name)

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self.directory / "workloads") if NAME.fullmatch(name))

    def _buried(self, name: str) -> bool:
        return (self.directory / "tombstones" / name).exists()

    def _check(self, workload: Workload) -> None:
        if workload.runtime != "windlass":
            raise Refused(
                "UnknownRuntime",
                f"This host has no runtime “{workload.runtime}”: it runs programs of the runtime “windlass” only.",
            )
        carried = [*(item.name for item in workload.inputs), *(item.name for item in workload.outputs)]
        names = [workload.name, *workload.secrets, *carried]
        if wrong := [name for name in names if not NAME.fullmatch(name)]:
            raise Refused("BadName", f"{wrong[0]!r} can't be a file name here. A name that works: model.onnx")
        if workload.trust == "uploaded" and not self._allow_uncaged and not cage.caged():
            raise Refused("NoCage", f"{cage.describe()} Until then, use a recipe.")
        if workload.trust == "uploaded" and workload.network == "peers" and not self._allow_uncaged:
            raise Refused(
                "NoCageAcrossHosts",
                "An uploaded script can't run on several hosts: its nodes would share the hosts' network, where it "
                "could reach more than the others of its run. Start it on one node, or use a recipe.",
            )

    def _make(self, files: WorkloadFiles, spec: Spec, secrets: dict[str, bytes], grants: Grants) -> None:
        """The directory appears whole, by one rename; what a crash leaves before that is swept as rubbish."""
        draft = self.directory / "trash" / f"draft.{uuid.uuid4().hex}" / files.name
        draft.mkdir(mode=0o700, parents=True)
        for name in FOLDERS:
            (draft / name).mkdir(mode=0o755 if name in ("in", "live") else 0o700)
            (draft / name).chmod(0o755 if name in ("in", "live") else 0o700)
        os.mkfifo(draft / "wake", 0o600)
        for name in spec.workload.secrets:
            write_whole(draft / "secrets" / name, secrets[name], 0o400)
        write_whole(draft / "grants.json", grants.to_json())
        cage.write_identity(draft)
        if spec.cage:
            cage.give_away(draft)
        WorkloadFiles(draft).write_spec(spec)
        os.rename(draft, files.path)
        draft.parent.rmdir()

    def _change(self, files: WorkloadFiles, spec: Spec, before: Spec) -> None:
        name = files.name
        if before.workload.digest != spec.workload.digest:
            raise Conflict(f"{name} is already another workload here; only the number of replicas may change.")
        if spec.generation < before.generation:
            raise Conflict(f"{name} is at generation {before.generation} here; {spec.generation} is too late.")
        if spec != before:
            files.write_spec(dataclasses.replace(spec, cage=before.cage, address=before.address))
            files.wake()

    def _start(self, files: WorkloadFiles) -> None:
        """Start a shim unless one lives, and wait until it has taken charge. Called with the host's lock."""
        if files.shim_pid():
            return
        with contextlib.suppress(Damaged):  # a container comes back with another address, and no port is bound now
            if (spec := files.read_spec()) and spec.address != self._address:
                files.write_spec(dataclasses.replace(spec, address=self._address))
        taken, ready = os.pipe()
        words = [sys.executable, *SHIM, str(files.path), str(ready)]
        try:
            with open(files.path / "shim.log", "ab") as log:
                process = subprocess.Popen(
                    words,
                    cwd=cage.ROOT,
                    env=_shim_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[ready],
                    start_new_session=True,
                )
            os.close(ready)
            ready = -1
            answered, _, _ = select.select([taken], [], [], START_SECONDS)
            process.wait(1)  # it forked; only its child goes on
            if not (answered and os.read(taken, 1)) and not files.shim_pid() and not has_ended(files):
                said = (files.path / "shim.log").read_text(errors="replace")[-500:].strip()
                raise Unavailable(f"The watcher of {files.name} did not start: {said or 'it said nothing'}")
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"The watcher of {files.name} did not start in {START_SECONDS:g} seconds.") from error
        finally:
            os.close(taken)
            if ready >= 0:
                os.close(ready)

    def _revive(self, names: list[str], timeout_seconds: float | None) -> dict[str, str]:
        """Start what has no shim; what the time is too short for comes later. Returns problems by name."""
        problems = {}
        began = time.monotonic()
        for name in names:
            if timeout_seconds is not None and time.monotonic() - began > timeout_seconds:
                break
            files = self._files(name)
            try:
                with self._locked():
                    if files.path.is_dir() and not self._buried(name) and not has_ended(files):
                        self._start(files)
            except (Unavailable, OSError) as error:  # the others must not wait for this one
                problems[name] = str(error)
        return problems

    def _sweep(self) -> None:
        """Remove what was thrown away, drafts of dead workers, and tombstones that nobody can need any more."""
        now = time.time()
        for folder in (self.directory / "trash").iterdir():
            if not folder.name.startswith("draft.") or folder.stat().st_mtime < now - 60:
                remove_tree(folder)
        for tombstone in (self.directory / "tombstones").iterdir():
            if tombstone.stat().st_mtime < now - TOMBSTONE_SECONDS:
                tombstone.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time on this host. Unlocked by word, not by closing: a fork may hold a copy of the file."""
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Unavailable("Another change on this host takes too long.") from None
                    time.sleep(0.005)
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def snapshot(directory: Path) -> dict[str, int]:
    """Name -> when its status last changed (nanoseconds). Cheap: a watcher may ask ten times a second."""
    found = {}
    with os.scandir(Path(directory) / "workloads") as entries:
        for entry in entries:
            try:
                found[entry.name] = os.stat(f"{entry.path}/status.json").st_mtime_ns
            except OSError:
                found[entry.name] = 0
    return found


def stop_all(directory: Path, grace_seconds: float, storing_seconds: float = 60.0) -> list[str]:
    """Stop every workload of the host because the product stops; all at once. No tombstones.

    Jobs store what they keep always (their checkpoint) and end as killed; services go on at the next `recover` or
    `apply`. Returns the names of those that did not end in time and were killed.
    """
    target = ProcessTarget(directory)
    unfinished = [files for name in target._names() if not has_ended(files := target._files(name))]
    living = [files for files in unfinished if files.shim_pid()]
    for files in living:
        files.request_stop(Stop(grace_seconds, resume=True))
    await_end(living, grace_seconds + storing_seconds)
    late = [files for files in living if files.shim_pid()]
    orphaned = [files for files in unfinished if files not in living]
    threads = [threading.Thread(target=kill_shim, args=(files,)) for files in (*late, *orphaned)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [files.name for files in late]


def _shim_environment() -> dict[str, str]:
    """Nothing of the worker's own: its database, broker and keys are not the shim's business."""
    passed = ("WINDLASS_CRASH_FILE", "WINDLASS_CRASH_LOG", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    kept = {name: os.environ[name] for name in passed if name in os.environ}
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **kept}


def _free_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
