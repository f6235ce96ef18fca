"""All that a workload's program finds in its environment, the same on every target."""

from __future__ import annotations

import sys
from pathlib import Path

from apps.placements.workload import Workload

CODE = Path(__file__).resolve().parents[2]


def environment(workload: Workload, root: Path, ordinal: int, temporary: str, mark: str) -> dict[str, str]:
    """`root`: the workload's folder as the program sees it; `temporary`: an empty folder of its own below it.

    `ordinal`: of a service's replica, or of a job's node. `mark`: by which its processes are known as ours.
    """
    threads = str(max(1, int(workload.resources.cpus) // max(1, workload.ranks)))
    given = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": f"{root}/{temporary}",
        "USER": "windlass",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(CODE),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        **workload.env,
        "TMPDIR": f"{root}/{temporary}",
        "WINDLASS_IN": f"{root}/in",
        "WINDLASS_OUT": f"{root}/out",
        "WINDLASS_LIVE": f"{root}/live",
        "WINDLASS_SECRETS": f"{root}/secrets",
        "WINDLASS_METRICS": f"{root}/metrics/{ordinal}.jsonl",
        "WINDLASS_WORKLOAD": workload.name,
        "WINDLASS_ORDINAL": str(ordinal),
        "WINDLASS_MARK": mark,
    }
    if any(item.name == "data" for item in workload.inputs):
        given["WINDLASS_DATA"] = f"{root}/in/data"
    return given
