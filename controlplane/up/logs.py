"""Logs of the supervised processes, kept at a size."""

import os
import shutil
from pathlib import Path

KEPT = 3


def rotate(directory: Path, limit_bytes: int) -> None:
    """Move the content of every log over the limit aside, as `name.log.1` to `name.log.3`.

    The processes hold the files open for appending, so the content is copied and the file emptied; a line written in
    the very moment may be lost, which is why logs of workloads are kept in another way.
    """
    for log in directory.glob("*.log"):
        if log.stat().st_size <= limit_bytes:
            continue
        for number in range(KEPT - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number + 1}"))
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
