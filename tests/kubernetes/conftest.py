"""A pod's folders without any Kubernetes: its three programs as plain processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.placements.workload import Input, Output, Workload
from apps.registry import parts
from tests.clouds.kubernetes.simulator import kube  # noqa: F401
from tests.kubernetes.world import far  # noqa: F401
from tests.spine.conftest import workspace, world  # noqa: F401
from workers.targets.contract import Grants, InputGrant, OutputGrant

ROOT = Path(__file__).resolve().parents[2]


class PodFolder:
    def __init__(self, directory: Path) -> None:
        self.directory, self.work, self.secret = directory, directory / "work", directory / "windlass"
        for folder in (self.work, self.secret):
            folder.mkdir()
        self.key = parts.new_data_key()
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment: dict[str, str] = {}

    def order(self, workload: Workload, grants: Grants | None = None, **secrets: bytes) -> None:
        (self.secret / "workload.json").write_text(json.dumps(workload.to_json()))
        (self.secret / "grants.json").write_bytes((grants or Grants()).to_json())
        for name, value in secrets.items():
            (self.secret / f"secret.{name}").write_bytes(value)

    def job(
        self, script: str, *, grants: Grants | None = None, secrets: dict[str, bytes] | None = None, **fields: Any
    ) -> None:
        fields.setdefault("grace_seconds", 5.0)
        workload = Workload("plc-job", "job", ("python", "-S", "-c", script), **fields)
        self.order(workload, grants, **(secrets or {}))

    def start(self, program: str) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "WINDLASS_WORK": str(self.work),
            "WINDLASS_TERMINATION_LOG": str(self.directory / f"{program}.said"),
            **self.environment,
        }
        if program != "run":
            environment["WINDLASS_GRANTS"] = str(self.secret)
        with open(self.directory / f"{program}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.targets.kubernetes.pod", program],
                env=environment,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def all(self) -> tuple[int, int]:
        """The exit codes of the program and of its companion, after carrying in."""
        assert self.start("carry-in").wait(20) == 0, self.log("carry-in")
        companion = self.start("accompany")
        program = self.start("run").wait(20)
        return program, companion.wait(20)

    def log(self, program: str) -> str:
        return (self.directory / f"{program}.log").read_text()

    def said(self, program: str) -> Any:
        return json.loads((self.directory / f"{program}.said").read_bytes())

    def input(self, name: str, content: bytes, **fields: Any) -> tuple[Input, InputGrant]:
        folder = self.directory / "blobs" / name
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(parts.seal(self.key, name, 0, content))
        item = Input(name, name, hashlib.sha256(content).hexdigest(), len(content), **fields)
        return item, InputGrant(name, self.key, (str(folder / "0"),))

    def output(self, name: str, **fields: Any) -> tuple[Output, OutputGrant]:
        return Output(name, name, **fields), OutputGrant(name, self.key, str(self.directory / "blobs" / name))

    def stored(self, name: str) -> bytes:
        return parts.unseal(self.key, name, 0, (self.directory / "blobs" / name / "0").read_bytes())


def until(true: Callable[[], object], timeout_seconds: float = 15.0) -> None:
    ends = time.monotonic() + timeout_seconds
    while not true():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[PodFolder]:
    folder = PodFolder(tmp_path)
    yield folder
    for process in folder.started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
