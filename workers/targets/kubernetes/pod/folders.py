"""What the programs of a pod leave for one another and for whoever looks at the pod from outside.

live/workload.json   carry-in: what to run; the program can read it and not change it
live/auth.json       the companion of a service: who may call
state/running        a record lock, held by the living `run`: a death releases it, whatever kind of death it was
state/exit.json      `run`: how the program ended
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.placements.foreign import parse_json
from apps.placements.workload import Workload
from workers.targets.process.files import open_untrusted, write_whole

FOLDERS = ("in", "live", "out", "metrics", "state", "tmp", "secrets")
TERMINATION_BYTES = 4096  # Kubernetes keeps no more of a container's last words
OUTPUT_BYTES = 8 * 1024**2  # of a container's log: the kubelet begins a new file at 10 MiB, and offsets would be lost
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid


@dataclass(frozen=True)
class Pod:
    """`rank`: of the node within its job; 0 in a service. `port`, `address`: where a service's program listens."""

    work: Path
    grants: Path
    termination_log: Path
    rank: int = 0
    name: str = ""
    address: str = ""
    port: int = 8080

    @classmethod
    def from_environment(cls) -> Pod:
        given = os.environ
        return cls(
            work=Path(given["WINDLASS_WORK"]),
            grants=Path(given.get("WINDLASS_GRANTS", "/windlass")),
            termination_log=Path(given.get("WINDLASS_TERMINATION_LOG", "/dev/termination-log")),
            rank=int(given.get("WINDLASS_NODE_RANK") or 0),
            name=given.get("WINDLASS_POD", ""),
            address=given.get("WINDLASS_ADDRESS", ""),
            port=int(given.get("WINDLASS_PORT") or 8080),
        )

    def workload(self) -> Workload:
        """As the program's container sees it."""
        return Workload.from_json(json.loads((self.work / "live" / "workload.json").read_bytes()))

    def granted_workload(self) -> Workload:
        """As it was ordered; no program can have changed it."""
        return Workload.from_json(json.loads((self.grants / "workload.json").read_bytes()))

    @property
    def metrics(self) -> Path:
        return self.work / "metrics" / f"{self.rank}.jsonl"

    def tell(self, content: dict[str, Any]) -> None:
        """The container's last words, never more than is kept of them: a message that is too long loses its end."""
        said = json.dumps(content, ensure_ascii=False).encode()
        while len(said) > TERMINATION_BYTES and content.get("message"):
            shorter = content["message"][: -max(1, (len(said) - TERMINATION_BYTES) // 4)]
            content = {**content, "message": shorter}
            said = json.dumps(content, ensure_ascii=False).encode()
        try:
            self.termination_log.write_bytes(said)  # a mounted file: it can't be replaced
        except OSError as error:
            print(f"windlass: its last words could not be written: {error}", flush=True)

    def write_exit(self, content: dict[str, Any]) -> None:
        write_whole(self.work / "state" / "exit.json", json.dumps(content).encode(), 0o644)

    def read_exit(self) -> dict[str, Any] | None:
        """What `run` wrote; the program's container could have written it too, so it is taken as a claim."""
        try:
            with os.fdopen(open_untrusted(self.work / "state" / "exit.json"), "rb") as file:
                content = parse_json(file.read(64 * 1024))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else {}

    def hold_running(self) -> None:
        """Until this process ends. Open the file once only: any close would release the lock.

        It appears locked: whoever finds it without a lock knows that a `run` began and was killed.
        """
        arriving = self.work / "state" / ".running"
        descriptor = os.open(arriving, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        os.rename(arriving, self.work / "state" / "running")

    def began(self) -> bool:
        """Whether a `run` ever lived."""
        return os.path.lexists(self.work / "state" / "running")

    def runs(self) -> bool:
        """Whether a `run` lives, in whichever container it is."""
        try:
            descriptor = open_untrusted(self.work / "state" / "running", flags=os.O_RDWR)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return False
            raise
        try:
            wish = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind: int = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wish))[0]
        finally:
            os.close(descriptor)
        return kind != fcntl.F_UNLCK
