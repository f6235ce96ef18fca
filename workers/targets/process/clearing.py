"""Ending workloads from outside their shims: waiting for one, killing one, clearing away what it left."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from workers.targets.process import limits, processes
from workers.targets.process.files import Damaged, Status, WorkloadFiles


def has_ended(files: WorkloadFiles) -> bool:
    try:
        status: Status | None = files.read_status()
    except Damaged:
        return False
    return bool(status and status.final)


def await_end(all_files: list[WorkloadFiles], timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    while any(files.shim_pid() for files in all_files) and time.monotonic() < deadline:
        time.sleep(0.01)


def kill_shim(files: WorkloadFiles) -> None:
    if (pid := files.shim_pid()) > 0:
        processes.kill([pid])
        await_end([files], 1.0)
    kill_leftovers(files)


def kill_leftovers(files: WorkloadFiles) -> None:
    """What a killed shim left running, found by its mark and its control groups."""
    mark = processes.mark_of(files.path)
    try:
        status = files.read_status()
    except Damaged:
        status = None
    groups = limits.leftover_groups(mark, status.groups if status else [])
    processes.kill_until_none(lambda: sorted({*processes.marked(mark), *limits.members(groups)}))
    limits.ControlGroup(groups, 0).remove()


def clear_beside_others(path: Path) -> None:
    """Remove a folder while programs that may write beside it run. As root never by a path that they could bend."""
    if os.geteuid() == 0:
        shutil.rmtree(path, ignore_errors=True)  # goes by descriptors, and root needs no permission first
    else:
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove whatever a program left: folders that it made unreadable or read-only are opened first."""

    def open_up(function: Any, failed: str, problem: Any) -> None:
        for folder in (os.path.dirname(failed), failed):
            if os.path.isdir(folder) and not os.path.islink(folder):
                os.chmod(folder, 0o700)
        if function in (os.unlink, os.rmdir):
            function(failed)
        else:
            shutil.rmtree(failed)

    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path, onerror=open_up)
