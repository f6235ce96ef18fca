"""A replica as a target starts it: the real process, on a socket that listens already, with its folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnx
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[2]
SECRET = "wl_live_test-secret"
SIGNATURE = {
    "task": "image_classification",
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
    "classes": [str(digit) for digit in range(10)],
    "normalise": {"scale": 0.0625},
}


def tiny_model(path: Path) -> None:
    """The logits of image [batch, 1, 8, 8] are its first ten pixels."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [
            helper.make_tensor("starts", TensorProto.INT64, [1], [0]),
            helper.make_tensor("ends", TensorProto.INT64, [1], [10]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    save(graph, path)


def slow_model(path: Path, size: int = 1200, rounds: int = 3) -> None:
    """As `tiny_model`, but behind products of large matrices that take a good while and change nothing."""
    large = helper.make_node("ConstantOfShape", ["size"], ["ones"], value=helper.make_tensor("v", 1, [1], [1e-9]))
    nodes = [large, helper.make_node("ReduceSum", ["image"], ["some"], keepdims=0)]
    nodes.append(helper.make_node("Mul", ["ones", "some"], ["m0"]))
    for number in range(rounds):
        nodes.append(helper.make_node("MatMul", [f"m{number}", "ones"], [f"m{number + 1}"]))
    nodes += [
        helper.make_node("ReduceSum", [f"m{rounds}"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("Slice", ["flat", "starts", "ends", "axes"], ["ten"]),
        helper.make_node("Add", ["ten", "nothing"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [
            helper.make_tensor("size", TensorProto.INT64, [2], [size, size]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("starts", TensorProto.INT64, [1], [0]),
            helper.make_tensor("ends", TensorProto.INT64, [1], [10]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    save(graph, path)


def save(graph: onnx.GraphProto, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def image(value: float = 1.0, count: int = 1) -> dict[str, Any]:
    """A request's body whose largest logit is number 3."""
    pixels = [0.0] * 64
    pixels[3] = value
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [count, 1, 8, 8], "data": pixels * count}]}


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def bundle(*secrets: str, made_at: float | None = None, **limits: Any) -> dict[str, Any]:
    keys = {
        digest(secret): {
            "id": f"key_{number}",
            "name": "test",
            "expires_at": None,
            "requests_per_minute": None,
            **limits,
        }
        for number, secret in enumerate(secrets or (SECRET,))
    }
    return {"version": 1, "made_at": made_at or time.time(), "keys": keys}


class Replica:
    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        for name in ("in", "out", "live", "metrics", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "tmp"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "WINDLASS_IN": str(folder / "in"),
            "WINDLASS_OUT": str(folder / "out"),
            "WINDLASS_LIVE": str(folder / "live"),
            "WINDLASS_METRICS": str(folder / "metrics" / "0.jsonl"),
            "WINDLASS_LISTEN_FD": str(self.listener.fileno()),
            "WINDLASS_MODEL": "digits",
            "WINDLASS_DEPLOYMENT": "windlass/digits",
            "WINDLASS_REVISION": "3",
            "WINDLASS_DRAIN_SECONDS": "0.3",
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def publish(self, content: dict[str, Any] | bytes) -> None:
        """Puts an auth bundle in place as the control plane does: whole, by a rename."""
        path = self.folder / "live" / "auth.json"
        new = path.with_suffix(".new")
        new.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        new.replace(path)

    def start(self, *, wait: bool = True) -> Replica:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.serving"],
                env=self.environment,
                cwd=self.folder,
                pass_fds=[self.listener.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            wait_for(lambda: self.get("/v2/health/ready", key=None).status_code == 200, self.log)
        return self

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_seconds: float = 20) -> int:
        assert self.process is not None
        return self.process.wait(timeout_seconds)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.listener.close()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def windows(self) -> list[dict[str, Any]]:
        path = self.folder / "metrics" / "0.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def get(self, path: str, key: str | None = SECRET) -> httpx.Response:
        return httpx.get(self.url + path, headers=bearer(key), timeout=10)

    def infer(self, body: Any, key: str | None = SECRET, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.url}/v2/models/digits/infer"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(url, content=content, headers={**bearer(key), **names}, timeout=20)

    def refused(self, body: Any, **headers: str) -> str:
        """The message of a prediction that must be answered with 400."""
        response = self.infer(body, **headers)
        assert response.status_code == 400, response.text
        return str(response.json()["error"])


def bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def wait_for(condition: Any, about: Any = lambda: "", timeout_seconds: float = 20) -> None:
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError(f"It did not happen within {timeout_seconds} s. {about()}")


@contextlib.contextmanager
def running(folder: Path, environment: dict[str, str] | None = None, model: Any = tiny_model) -> Iterator[Replica]:
    """A replica with a model, a signature and one key; ready."""
    replica = Replica(folder, environment)
    model(folder / "in" / "model.onnx")
    (folder / "in" / "signature.json").write_text(json.dumps(SIGNATURE))
    replica.publish(bundle())
    try:
        yield replica.start()
    finally:
        replica.end()
