"""Limits on memory and processes: a control group (v1 or v2) where one can be made, and the use of disk.

A v2 group needs its controllers handed down by the group above; where that was not done the shim adds up the
memory of its processes instead (`processes.memory_bytes`).
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from workers.targets.process.files import open_untrusted

PROCESSES = 4096
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


class ControlGroup:
    """The group of one running copy. `folders`: one a hierarchy (v1 has memory and pids apart)."""

    def __init__(self, folders: list[Path], memory_bytes: int) -> None:
        self.folders = folders
        self.limits_memory = bool(folders) and memory_bytes > 0
        self._kills_before = self._kills()  # of a group that could not be removed in time

    @classmethod
    def make(cls, name: str, memory_bytes: int) -> ControlGroup:
        """Without any group (no rights, no controllers) `folders` is empty."""
        own = _own_groups()
        if "memory" not in own:
            made = _make(own.get(""), name, {"memory.max": memory_bytes, "memory.oom.group": 0, "pids.max": PROCESSES})
            return cls([made] if made else [], memory_bytes if made else 0)
        memory = _make(own["memory"], name, {"memory.limit_in_bytes": memory_bytes})
        processes = _make(own.get("pids"), name, {"pids.max": PROCESSES})
        return cls([folder for folder in (memory, processes) if folder], memory_bytes if memory else 0)

    def enter(self) -> None:
        """Called in the new process, before it gives up its rights."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text("0")

    def ran_out_of_memory(self) -> bool:
        return self._kills() > self._kills_before

    def _kills(self) -> int:
        """How many processes the kernel killed here for want of memory."""
        kills = 0
        for folder in self.folders:
            for name in ("memory.oom_control", "memory.events"):
                try:
                    lines = (folder / name).read_text().splitlines()
                except OSError:
                    continue
                kills += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return kills

    def pids(self) -> list[int]:
        return members(self.folders)

    def remove(self) -> None:
        """A group can be removed a moment after its last process ended, not before."""
        for folder in self.folders:
            for _ in range(50):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                else:
                    break


def leftover_groups(mark: str, recorded: list[str]) -> list[Path]:
    """Groups of a workload whose shim died: those that its status names, and those that bear its mark."""
    found = [folder for parent in set(_own_groups().values()) for folder in parent.glob(f"windlass-{mark}-*")]
    return sorted({*found, *(Path(group) for group in recorded)})


def members(folders: list[Path]) -> list[int]:
    found: set[int] = set()
    for folder in folders:
        try:
            found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return sorted(found - {0, os.getpid()})


def _own_groups() -> dict[str, Path]:
    """Controller ("" for v2) -> the folder of this process's group, or the hierarchy's root where that is not shown."""
    groups = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            root = Path("/sys/fs/cgroup") / controller
            folder = root / path.strip("/")
            groups[controller] = folder if folder.is_dir() else root
    return groups


def _make(parent: Path | None, name: str, settings: dict[str, int]) -> Path | None:
    if parent is None:
        return None
    folder = parent / name
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    try:
        for setting, value in settings.items():
            (folder / setting).write_text(str(value))
    except OSError:
        folder.rmdir()
        return None
    return folder


def disk_bytes(*folders: Path) -> int:
    """What lies below, as allocated. A file that vanishes meanwhile counts nothing; links aren't followed."""
    total, todo = 0, [os.fspath(folder) for folder in folders]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
            except OSError:
                continue
    return total


def free_beginning(path: Path, keep_bytes: int) -> None:
    """Give back the disk of all but the last bytes of a file that grows for ever; offsets into it stay what they are.

    Where the file system can't do that, nothing happens and the limit on disk decides.
    """
    try:
        descriptor = open_untrusted(path, flags=os.O_RDWR)
    except OSError:
        return
    try:
        length = (os.fstat(descriptor).st_size - keep_bytes) // 1024**2 * 1024**2
        if length > 0:
            flags = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
            _libc.fallocate(descriptor, flags, ctypes.c_long(0), ctypes.c_long(length))
    finally:
        os.close(descriptor)


def gibibytes(size_bytes: float) -> str:
    """ "1.5 GiB", "64 MiB" """
    return f"{size_bytes / 1024**3:.3g} GiB" if size_bytes >= 1024**3 else f"{size_bytes / 1024**2:.3g} MiB"
