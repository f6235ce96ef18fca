"""The files of one workload's directory: who writes what, and how nobody ever reads half of it.

    workload.json   the target: what is wanted (workload, generation, address, cage)
    grants.json     the target, 0600: rights to blobs; the shim removes it once nothing is left to carry
    stop.json       the target: stop, with its grace time; `resume`: go on at the next start of the product
    status.json     the shim: phase, and what `observe` answers
    carried.json    carry: how carrying in or out ended
    lock            held by the living shim (a POSIX record lock: a fork doesn't inherit it, a death releases it,
                    and asking who holds it doesn't take it)
    wake            a FIFO: a byte makes the shim look at the files again
    in out tmp logs metrics live secrets

Standard library only: the shim starts in a few hundredths of a second because it loads little.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import struct
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from apps.placements.observation import Observed
from apps.placements.workload import Workload

Phase = Literal["fetching", "running", "storing", "paused", "exited"]
FOLDERS = ("in", "out", "tmp", "logs", "metrics", "live", "secrets")
STREAM_BYTES = 32 * 1024**2
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid


def now() -> str:
    return datetime.now(UTC).isoformat()


@dataclass(frozen=True)
class Spec:
    """What the target wants of a shim. `address`: where ports are bound. `cage`: bubblewrap's path, or ""."""

    workload: Workload
    generation: int
    address: str
    cage: str

    @property
    def stream_bytes(self) -> int | None:
        """A job's log and metrics stop at a cap; a service's go on, and only their last part stays on the disk."""
        return STREAM_BYTES if self.workload.kind == "job" else None

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "workload": self.workload.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Spec:
        return cls(**{**content, "workload": Workload.from_json(content["workload"])})


@dataclass(frozen=True)
class Stop:
    """`resume`: the product stops, not the workload. `discard`: it is to be deleted, so nothing needs storing."""

    grace_seconds: float
    resume: bool = False
    discard: bool = False


@dataclass
class Status:
    """`ports`: of a service's replicas, kept over a shim's death. `groups`: control groups that may hold processes."""

    phase: Phase
    observed: Observed
    ports: dict[str, int] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)

    @property
    def final(self) -> bool:
        return self.phase == "exited"


class Damaged(Exception):
    """A file of the directory is there but can't be read: the machine went down while it was written."""


def write_whole(path: Path, content: bytes, mode: int = 0o600, *, durable: bool = False) -> None:
    """Replace the file by a rename, so that every reader sees the old or the new content and never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def open_untrusted(path: str | Path, folder: int | None = None, flags: int = os.O_RDONLY) -> int:
    """Open what a program wrote: a plain file with one name. `folder`: a descriptor that `path` is relative to.

    A link would make us, who may read more than the program, read for it. Raises OSError, ELOOP for a link.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    seen = os.fstat(descriptor)
    if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.ELOOP, "It is a link or no plain file", str(path))


class WorkloadFiles:
    """One workload's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self._modified_ns = 0

    def read_spec(self) -> Spec | None:
        """Raises Damaged."""
        content = _read(self.path / "workload.json")
        try:
            return Spec.from_json(content) if content is not None else None
        except (TypeError, KeyError) as error:
            raise Damaged(f"{self.path}/workload.json is no workload: {error}") from error

    def write_spec(self, spec: Spec) -> None:
        write_whole(self.path / "workload.json", json.dumps(spec.to_json()).encode(), durable=True)

    def read_status(self) -> Status | None:
        """None where no shim ever began. Raises Damaged."""
        content = _read(self.path / "status.json")
        if content is None:
            return None
        try:
            return Status(**{**content, "observed": Observed.from_json(content["observed"])})
        except (TypeError, KeyError) as error:
            raise Damaged(f"{self.path}/status.json is no status: {error}") from error

    def write_status(self, status: Status) -> None:
        """Every write moves the file's time forward, so that a watcher can't miss one within a clock tick."""
        path = self.path / "status.json"
        content = json.dumps({**status.__dict__, "observed": status.observed.to_json()})
        temporary = self.path / ".status.json"
        temporary.write_text(content)
        self._touch(temporary)
        os.rename(temporary, path)

    def touch_status(self) -> None:
        self._touch(self.path / "status.json")

    def _touch(self, path: Path) -> None:
        self._modified_ns = max(time.time_ns(), self._modified_ns + 1)
        os.utime(path, ns=(self._modified_ns, self._modified_ns))

    def read_stop(self) -> Stop | None:
        content = _read(self.path / "stop.json")
        return Stop(**content) if content is not None else None

    def request_stop(self, stop: Stop) -> None:
        """Ask for a stop. An earlier and stricter wish stands: a stop is never taken back or made longer by another."""
        before = self.read_stop()
        if before:
            stop = Stop(
                min(before.grace_seconds, stop.grace_seconds),
                before.resume and stop.resume,
                before.discard or stop.discard,
            )
        if stop != before:
            write_whole(self.path / "stop.json", json.dumps(stop.__dict__).encode())
        self.wake()

    def read_carried(self) -> dict[str, Any]:
        """What carry said: {"outputs": {name: {sha256, size_bytes}}} or {"failure", "message"}."""
        try:
            return _read(self.path / "carried.json") or {}
        except Damaged:
            return {}

    def wake(self) -> None:
        """Make the shim look. Without a shim, or where it is awake already, there is nothing to do."""
        try:
            descriptor = os.open(self.path / "wake", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):
                return
            raise
        try:
            os.write(descriptor, b"w")
        except (BlockingIOError, BrokenPipeError):
            return
        finally:
            os.close(descriptor)

    def take_lock(self) -> bool:
        """Hold the directory until this process ends. Open the lock file once only: any close would release it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def shim_pid(self) -> int:
        """The process that holds the lock, or 0. Never call this in the shim: closing would release its own lock."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            wish = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wish))
        finally:
            os.close(descriptor)
        if answer[0] == fcntl.F_UNLCK:
            return 0
        return int(answer[4]) or -1  # a holder in another PID namespace has no number here

    def stream(self, name: str) -> Path:
        """The file of a log or metrics stream. Raises ValueError for a name that is no stream's."""
        kind, _, ordinal = name.rpartition("-")
        if not _is_ordinal(ordinal) or kind not in ("", "metrics") or (not kind and "-" in name):
            raise ValueError(f"There is no stream {name!r}. Streams are called '0', '1', ... or 'metrics-0', ...")
        return self.path / "metrics" / f"{ordinal}.jsonl" if kind else self.path / "logs" / f"{ordinal}.log"

    def stream_bytes(self, cap_bytes: int | None) -> dict[str, int]:
        """How long each stream is: a metrics file, which the program writes, is cut at the cap."""
        sizes = {}
        for folder, suffix, prefix in (("logs", ".log", ""), ("metrics", ".jsonl", "metrics-")):
            entries: list[os.DirEntry[str]] = []
            with contextlib.suppress(OSError):  # it was deleted just now, or its program closed its own folder
                entries = list(os.scandir(self.path / folder))
            for entry in entries:
                stem = entry.name.removesuffix(suffix)
                with contextlib.suppress(FileNotFoundError):  # a program may remove what it wrote
                    if _is_ordinal(stem) and entry.is_file(follow_symlinks=False):
                        size = entry.stat(follow_symlinks=False).st_size
                        sizes[prefix + stem] = size if cap_bytes is None else min(size, cap_bytes)
        return sizes


def _is_ordinal(text: str) -> bool:
    """0 to 999, written in one way only: a program chooses these names, and each becomes a stream of its row."""
    return text.isascii() and text.isdecimal() and len(text) <= 3 and text == str(int(text))
