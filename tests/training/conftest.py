"""Prepared datasets, and training runs as a target would start them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import train_test_split

from apps.training.hyperparameters import RECIPES, complete
from workers.training.dataset import read_dataset
from workers.training.loop import Training
from workers.training.processes import Processes, joined_processes
from workers.training.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SPLIT_SEED = 0


def write_dataset(directory: Path, kind: str, features: Any, labels: Any, classes: list[str], held_out: int) -> Path:
    train, test = train_test_split(np.arange(len(labels)), test_size=held_out, stratify=labels, random_state=SPLIT_SEED)
    split = np.zeros(len(labels), np.uint8)
    split[test] = 1
    directory.mkdir(parents=True, exist_ok=True)
    for name, array in (("features", features), ("labels", labels.astype(np.int64)), ("split", split)):
        np.save(directory / f"{name}.npy", array, allow_pickle=False)
    description = {
        "kind": kind,
        "items": len(labels),
        "classes": classes,
        "splits": {"train": len(train), "held_out": len(test), "seed": SPLIT_SEED},
        "shape": list(features.shape[1:]),
    }
    (directory / "dataset.json").write_text(json.dumps(description))
    return directory


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,437 images to train on and 360 held out; pixels from 0 to 16."""
    loaded = load_digits()
    images = loaded.images.astype(np.uint8)[:, None]
    directory = tmp_path_factory.mktemp("digits")
    return write_dataset(directory, "image", images, loaded.target, [str(digit) for digit in range(10)], 360)


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rows to train on and 30 held out."""
    loaded = load_iris()
    directory = tmp_path_factory.mktemp("iris")
    return write_dataset(
        directory, "table", loaded.data.astype(np.float32), loaded.target, list(map(str, loaded.target_names)), 30
    )


@dataclass
class Run:
    """A workload's directory, and programs started in it."""

    directory: Path
    data: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    surroundings: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.directory / "out"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    @property
    def failure(self) -> dict[str, str]:
        return json.loads((self.out / "failure.json").read_text())

    @property
    def metrics(self) -> list[dict[str, float]]:
        path = self.directory / "metrics" / "0.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.out / "checkpoint").glob("*"))

    def environment(self, **hyperparameters: Any) -> dict[str, str]:
        for name in ("in", "out", "tmp", "metrics"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory / "tmp"),
            "TMPDIR": str(self.directory / "tmp"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "WINDLASS_IN": str(self.directory / "in"),
            "WINDLASS_OUT": str(self.out),
            "WINDLASS_DATA": str(self.data),
            "WINDLASS_METRICS": str(self.directory / "metrics" / "0.jsonl"),
            "WINDLASS_HYPERPARAMETERS": json.dumps(hyperparameters),
            **self.surroundings,
        }

    def start(self, processes: int, *program: str, **hyperparameters: Any) -> subprocess.Popen[bytes]:
        """torchrun with this program, as the contract starts it; `data_parallel` without one."""
        words = [f"--nproc-per-node={processes}", "--max-restarts=3"]
        words += ["--role=rank", "--tee=3", *(program or ("-m", "workers.training.data_parallel"))]
        return self.start_plain("-m", "workers.training.launch", *words, **hyperparameters)

    def start_plain(self, *argv: str, world_size: int | None = None, **hyperparameters: Any) -> subprocess.Popen[bytes]:
        environment = self.environment(**hyperparameters)
        if world_size:
            environment["WORLD_SIZE"] = str(world_size)
        with (self.directory / "log").open("ab") as log:
            program = subprocess.Popen(
                [sys.executable, *argv], cwd=self.directory, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.started.append(program)
        return program

    def ranks(self) -> list[int]:
        """Process ids of the living processes of this run that torchrun started, by rank."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                environment = dict(word.split(b"=", 1) for word in path.read_bytes().split(b"\0") if b"=" in word)
                if environment.get(b"WINDLASS_OUT") == str(self.out).encode() and b"LOCAL_RANK" in environment:
                    found[int(environment[b"RANK"])] = int(path.parent.name)
            except OSError:
                continue
        return [found[rank] for rank in sorted(found)]

    def wait_for(self, condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s:\n{self.log}"
            assert self.started[-1].poll() is None, f"the program ended:\n{self.log}"
            time.sleep(0.05)

    def end(self) -> None:
        for program in self.started:
            if program.poll() is None:
                program.kill()
            program.wait()
        for pid in self.ranks():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def run(tmp_path: Path, digits: Path) -> Iterator[Run]:
    made = Run(tmp_path, digits)
    yield made
    made.end()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Iterator[Run]:
    """The example's run, whole: digits on two processes with all defaults."""
    run = Run(tmp_path_factory.mktemp("trained"), digits)
    try:
        assert run.start(2, recipe="image_classifier").wait(110) == 0, run.log
        yield run
    finally:
        run.end()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    """This test's own process as the only one of a run."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name, value in {
        "RANK": 0,
        "WORLD_SIZE": 1,
        "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": 1,
        "MASTER_PORT": port,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    before, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with joined_processes() as processes:
            yield processes
    finally:
        torch.set_num_threads(threads)
        signal.signal(signal.SIGTERM, before)


def train(
    processes: Processes, data: Path, out: Path, carried_in: Path | None = None, **hyperparameters: Any
) -> Training:
    """Train to the end in this process."""
    out.mkdir(parents=True, exist_ok=True)
    completed = complete(hyperparameters)
    settings = Settings(data, out, carried_in, out / "metrics.jsonl", completed)
    training = Training(settings, read_dataset(data, RECIPES[completed["recipe"]].dataset_kind), processes)
    training.run()
    return training
