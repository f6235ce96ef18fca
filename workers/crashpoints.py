"""Named places where the fault tests kill this process. In normal life each costs one dictionary look-up.

`WINDLASS_CRASH_FILE` names a file that holds one crash point's name, and optionally a second line with how often
to pass it first (0). Whoever reaches the point renames the file (so it fires once, whatever the number of
processes) and dies by SIGKILL, after the process whose pid the third line names, if any (a worker's main process).
`WINDLASS_CRASH_LOG` names a file to which each point passed is appended, to prove that all were walked.
"""

from __future__ import annotations

import os
import signal


def point(name: str) -> None:
    if log := os.environ.get("WINDLASS_CRASH_LOG"):
        with open(log, "a") as file:
            file.write(f"{name}\n")
    if armed := os.environ.get("WINDLASS_CRASH_FILE"):
        _maybe_die(name, armed)


def _maybe_die(name: str, armed: str) -> None:
    try:
        with open(armed) as file:
            wanted, passes, whom = (*file.read().split("\n"), "", "")[:3]
    except FileNotFoundError:
        return
    if wanted != name:
        return
    claimed = f"{armed}.{os.getpid()}"
    try:
        os.rename(armed, claimed)
    except FileNotFoundError:
        return
    if int(passes or 0) > 0:
        with open(claimed, "w") as file:
            file.write(f"{name}\n{int(passes) - 1}\n{whom}")
        os.rename(claimed, armed)
        return
    os.rename(claimed, f"{armed}.fired")
    if whom:
        os.kill(int(whom), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
