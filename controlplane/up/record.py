"""Who runs this installation: the lock that only one `make up` can hold, and `var/run.json`, which says what runs."""

import fcntl
import json
import os
import shlex
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from controlplane.configuration import Configuration


class AlreadyRunning(Exception):
    """Somebody else runs this installation; the message says who and where."""


def lock(path: Path, web_url: str) -> TextIO:
    """Take the lock of the installation for as long as the returned file is open. Raises AlreadyRunning."""
    stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            who = json.loads(stream.read())
            told = f"by {who['user']} on {who['host']}, process {who['pid']}, since {who['since']}: {who['url']}"
        except (ValueError, KeyError):
            told = "by somebody who starts it right now"
        stream.close()
        raise AlreadyRunning(
            f"Windlass is already running {told}\n"
            f"Its data directory is {path.parent}. Stop it with Ctrl-C first, or start a second installation with "
            f"its own directory and ports:\n  WINDLASS_VAR={shlex.quote(str(path.parent) + '-2')} WINDLASS_PORT=8001 "
            "WINDLASS_GATEWAY_PORT=8081 make up"
        ) from None
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    who = {"pid": os.getpid(), "user": user_name(), "host": socket.gethostname(), "since": since, "url": web_url}
    stream.seek(0)
    stream.truncate()
    stream.write(json.dumps(who) + "\n")
    stream.flush()
    return stream


def user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


@dataclass(frozen=True)
class RunningProcess:
    """A process by its pid and the moment it started (in clock ticks since boot), since pids are used again."""

    name: str
    pid: int
    started: int

    @classmethod
    def of(cls, name: str, pid: int) -> "RunningProcess":
        return cls(name, pid, started_ticks(pid) or 0)

    def is_alive(self) -> bool:
        return self.started != 0 and started_ticks(self.pid) == self.started


def started_ticks(pid: int) -> int | None:
    """When that process started; None if there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def write(configuration: Configuration, processes: Mapping[str, int], phase: str) -> None:
    """Say in var/run.json what runs, for `make demo` and for a next start after we were killed."""
    entries = [RunningProcess.of(name, pid) for name, pid in processes.items()]
    content: dict[str, Any] = {
        "pid": os.getpid(),
        "phase": phase,
        "web_url": configuration.web_url,
        "gateway_url": configuration.predictions_url,
        "run_directory": str(configuration.run_directory),
        "processes": {entry.name: {"pid": entry.pid, "started": entry.started} for entry in entries},
    }
    draft = configuration.var / ".run.json"
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(configuration.var / "run.json")


def wait_until_running(var: Path, seconds: float = 120.0) -> bool:
    """Wait while another `make up` is still starting. Returns whether it runs now."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            holder = json.loads((var / "up.lock").read_text())["pid"]
            run = json.loads((var / "run.json").read_text())
            if run["pid"] == holder and run["phase"] != "starting":
                return bool(run["phase"] == "running")
        except (OSError, ValueError, KeyError):
            pass  # it has not come as far as writing them
        time.sleep(0.2)
    return False


def leftovers(var: Path) -> list[RunningProcess]:
    """What a killed `make up` left running, in the order it should stop."""
    try:
        entries = json.loads((var / "run.json").read_text())["processes"]
        found = [RunningProcess(name, int(entry["pid"]), int(entry["started"])) for name, entry in entries.items()]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [process for process in reversed(found) if process.is_alive()]


def stop_leftovers(processes: list[RunningProcess], grace_seconds: float = 15.0) -> None:
    """Wait for their end, which the kernel already asked for; ask again; at last end them.

    PostgreSQL gets SIGINT and SIGQUIT, both of which keep its files sound, the others SIGTERM and SIGKILL.
    """
    for share, polite in ((0.2, None), (0.8, True), (0.2, False)):
        for process in processes:
            if polite is None or not process.is_alive():
                continue
            gentle, harsh = (
                (signal.SIGINT, signal.SIGQUIT) if process.name == "postgres" else (signal.SIGTERM, signal.SIGKILL)
            )
            os.kill(process.pid, gentle if polite else harsh)
        deadline = time.monotonic() + grace_seconds * share
        while time.monotonic() < deadline:
            if not any(process.is_alive() for process in processes):
                return
            time.sleep(0.05)
