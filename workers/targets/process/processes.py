"""Processes as the kernel knows them: who descends from whom, what carries our mark, and how much memory they hold."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def mark_of(directory: Path) -> str:
    """Stands in the environment of all that is started for this directory, so that it is found after the shim died."""
    return hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:24]


def become_subreaper() -> None:
    """Orphans below this process become its children, whatever session or group they moved to."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent_pid: int) -> None:
    """SIGKILL for this process when its parent ends; not inherited by its children."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def parents() -> dict[int, int]:
    """Every living process and its parent. (`/proc/<pid>/task/*/children` is absent on many kernels.)"""
    result = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in (b"Z", b"X"):
            result[int(entry)] = int(fields[1])
    return result


def descendants(roots: Iterable[int], tree: dict[int, int] | None = None) -> list[int]:
    """The roots that live and all below them."""
    tree = parents() if tree is None else tree
    below: dict[int, list[int]] = {}
    for pid, parent in tree.items():
        below.setdefault(parent, []).append(pid)
    found = [pid for pid in roots if pid in tree]
    for pid in found:
        found.extend(below.get(pid, ()))
    return found


def first_child(pid: int, tree: dict[int, int]) -> int:
    """0 where it has none."""
    return min((child for child, parent in tree.items() if parent == pid), default=0)


def environment_holds(pid: int, *entries: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            present = file.read().split(b"\0")
    except OSError:
        return False
    return all(entry.encode() in present for entry in entries)


def marked(mark: str) -> list[int]:
    own = os.getpid()
    return [pid for pid in parents() if pid != own and environment_holds(pid, f"WINDLASS_MARK={mark}")]


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill_until_none(find: Callable[[], list[int]], timeout_seconds: float = 5.0) -> list[int]:
    """SIGKILL what `find` finds until it finds nothing; what a process starts meanwhile is found by the next look.

    Returns what is left after the time limit (a process stuck in the kernel dies later by the same signal).
    """
    deadline = time.monotonic() + timeout_seconds
    while left := find():
        kill(left)
        if time.monotonic() > deadline:
            return left
        time.sleep(0.005)
    return []


def memory_bytes(pids: Iterable[int], over_bytes: int) -> int:
    """Memory of these processes together. Shared pages are counted once, but only when it matters: looking is dear."""
    page = os.sysconf("SC_PAGE_SIZE")
    pids = list(pids)
    resident = sum(_statm(pid) for pid in pids) * page
    return resident if resident <= over_bytes else sum(_proportional(pid) for pid in pids)


def _statm(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _statm(pid) * os.sysconf("SC_PAGE_SIZE")
