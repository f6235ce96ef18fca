"""Runs an inspection program as a target does: a process with its own directory."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: Path
    log: str
    metrics: list[dict[str, Any]]

    def json(self, name: str) -> Any:
        return json.loads((self.out / name).read_text())

    @property
    def report(self) -> Any:
        return self.json("report.json")

    @property
    def failure(self) -> Any:
        return self.json("failure.json")

    @property
    def described(self) -> Any:
        return self.json("prepared/dataset.json")

    def array(self, name: str) -> Any:
        return np.load(self.out / "prepared" / f"{name}.npy", allow_pickle=False)


Inspect = Callable[..., Ended]


def _inspect(module: str, directory: Path, upload: bytes, **hyperparameters: Any) -> Ended:
    for name in ("in", "out", "tmp"):
        (directory / name).mkdir()
    (directory / "in" / "upload").write_bytes(upload)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "WINDLASS_IN": str(directory / "in"),
        "WINDLASS_OUT": str(directory / "out"),
        "WINDLASS_METRICS": str(directory / "metrics.jsonl"),
        "WINDLASS_HYPERPARAMETERS": json.dumps(hyperparameters),
        "TMPDIR": str(directory / "tmp"),
    }
    ended = subprocess.run(
        [sys.executable, "-m", module], env=environment, capture_output=True, text=True, timeout=60, cwd=directory
    )
    metrics = directory / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    log = ended.stdout + ended.stderr
    return Ended(ended.returncode, directory / "out", log, [json.loads(line) for line in lines])


@pytest.fixture
def inspect_dataset(tmp_path: Path) -> Inspect:
    return lambda upload, **choices: _inspect("workers.inspection.dataset", tmp_path, upload, **choices)


@pytest.fixture
def inspect_model(tmp_path: Path) -> Inspect:
    return lambda upload, **choices: _inspect("workers.inspection.model", tmp_path, upload, **choices)


@pytest.fixture
def zipped() -> Callable[[Mapping[str, bytes]], bytes]:
    def make(files: Mapping[str, bytes]) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, body in files.items():
                archive.writestr(name, body)
        return content.getvalue()

    return make


@pytest.fixture
def picture() -> Callable[..., bytes]:
    def make(seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB", kind: str = "PNG") -> bytes:
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
        values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        content = io.BytesIO()
        Image.fromarray(values).save(content, kind)
        return content.getvalue()

    return make


@pytest.fixture
def npz() -> Callable[..., bytes]:
    def make(**arrays: Any) -> bytes:
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return content.getvalue()

    return make
