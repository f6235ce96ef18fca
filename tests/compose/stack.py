"""An installation in containers, and what its users do with it."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from controlplane import demo
from tests import figures
from tests.compose.engine import IMAGE, PROJECT, Engine, said

COMPOSE = PROJECT / ".venv/bin/docker-compose"
FILES = ("docker-compose.yml", "tests/compose/docker-compose.offline.yml")
NAME = "windlass-test"
SHORT = {"epochs": 4}
RUN_SECONDS = 300
logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request is too much


class Stack:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.web_port, self.gateway_port = free_port(), free_port()
        self.environment = {
            **engine.environment,
            "WINDLASS_IMAGE": IMAGE,
            "WINDLASS_PORT": str(self.web_port),
            "WINDLASS_GATEWAY_PORT": str(self.gateway_port),
        }
        self.credentials: dict[str, str] = {}
        self.deployments: list[str] = []

    # --- containers -----------------------------------------------------------------------------------------------

    def compose(self, *arguments: str, timeout_seconds: float = 300) -> str:
        files = [word for file in FILES for word in ("-f", file)]
        words = [str(COMPOSE), "--progress", "quiet", "--env-file", os.devnull, "-p", NAME, *files, *arguments]
        return said(words, self.environment, timeout_seconds)

    def up(self, workers: int = 1) -> float:
        """Start all and wait until all is healthy. Returns the seconds that took."""
        began = time.monotonic()
        self.compose("up", "-d", "--wait", "--no-build", "--pull", "never", "--scale", f"worker={workers}")
        if not self.credentials:
            self.credentials = json.loads(self.compose("exec", "-T", "web", "cat", "/data/credentials.json"))
        return time.monotonic() - began

    def containers(self) -> dict[str, dict[str, Any]]:
        """Each container as the engine describes it, by name without the project's."""
        ids = self.engine.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={NAME}").split()
        described = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return {item["Name"].removeprefix(f"/{NAME}-"): item for item in described}

    def crash(self, container: str) -> None:
        """SIGKILL for its first process, as the system would do it; the engine has to start it again."""
        os.kill(self.containers()[container]["State"]["Pid"], signal.SIGKILL)

    # --- the API --------------------------------------------------------------------------------------------------

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @functools.cached_property
    def client(self) -> demo.Client:
        return demo.Client(self.web_url, self.credentials["api_key"], self.credentials["workspace"])

    def get(self, path: str, **query: Any) -> Any:
        """What the API says as soon as it answers; while a part of the installation is down it may not."""
        return until(lambda: self.client.get(path, **query), 60, f"GET {path}")

    def follow(self, path: str, good: set[str], seconds: float = RUN_SECONDS) -> dict[str, Any]:
        def in_phase() -> dict[str, Any] | None:
            row: dict[str, Any] = self.get(path)
            assert row["phase"] in good or row["phase"] not in demo.ENDED, f"{path}: {row['reason']}, {row['message']}"
            return row if row["phase"] in good else None

        return until(in_phase, seconds, f"{path} in {good}")

    @property
    def dataset_version(self) -> str:
        dataset = self.get("datasets", name="digits")["items"][0]["id"]
        version: str = self.get("dataset-versions", dataset=dataset)["items"][0]["id"]
        self.follow(f"dataset-versions/{version}", {"ready"})
        return version

    def begin_training(self, **hyperparameters: Any) -> str:
        body = {
            "model": "digits",
            "recipe": "image_classifier",
            "dataset_version": self.dataset_version,
            "processes": 2,
            "hyperparameters": {**SHORT, **hyperparameters},
        }
        made: dict[str, str] = self.client.post("training-runs", body)
        return made["id"]

    def train(self) -> dict[str, Any]:
        return self.follow(f"training-runs/{self.begin_training()}", {"succeeded"})

    def deploy(self, name: str, model_version: str) -> dict[str, Any]:
        """Export it, serve it, and give the deployment that answers."""
        made = self.client.post("exports", {"model_version": model_version})
        exported = self.follow(f"exports/{made['id']}", {"succeeded"})
        made = self.client.post("deployments", {"name": name, "export": exported["id"]})
        served = self.follow(f"deployments/{made['id']}", {"serving"})
        self.deployments.append(name)
        return served

    def hosts(self) -> dict[str, str]:
        """Their ids by name."""
        return {item["name"]: item["id"] for item in self.get("hosts")["items"]}

    def hosts_of(self, owner: str) -> set[str]:
        """Where an owner's placements stand or stood."""
        return {item["host"] for item in self.get("placements", limit=100)["items"] if item["owner"] == owner}

    # --- predictions ----------------------------------------------------------------------------------------------

    def predict(self, name: str, items: list[list[float]] | None = None) -> httpx.Response:
        """One request through the gateway."""
        items = items or [[0.5] * 64]
        body = {"name": "image", "datatype": "FP32", "shape": [len(items), 1, 8, 8], "data": numbers(items)}
        return httpx.post(
            f"http://127.0.0.1:{self.gateway_port}/{self.credentials['workspace']}/{name}/v2/models/digits/infer",
            json={"inputs": [body]},
            headers={"authorization": f"Bearer {self.credentials['api_key']}"},
            timeout=10,
            trust_env=False,
        )

    def held_out(self, count: int) -> tuple[list[list[float]], list[str]]:
        """Pixels between 0 and 1, and what they show."""
        path = f"dataset-versions/{self.dataset_version}/samples"
        items = self.get(path, split="held_out", limit=count)["items"]
        return [[value / 16 for value in numbers(item["features"])] for item in items], [
            str(item["label"]) for item in items
        ]

    @contextmanager
    def asking(self, name: str) -> Iterator[Counter[str]]:
        """Ask ten times a second meanwhile, and count the answers by status."""
        answers: Counter[str] = Counter()
        done = threading.Event()

        def ask() -> None:
            while not done.wait(0.1):
                try:
                    answers[str(self.predict(name).status_code)] += 1
                except httpx.HTTPError as error:
                    answers[type(error).__name__] += 1

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield answers
        finally:
            done.set()
            thread.join()

    def measured(self, figure: str, value: float, unit: str, goal: str, holds: bool) -> None:
        figures.measured(figure, round(value, 2), unit, goal, holds)


def numbers(item: Any) -> list[float]:
    return [number for part in item for number in numbers(part)] if isinstance(item, list) else [item]


def until(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer. Errors on the way are taken for "not yet"; the last one is told when time is up."""
    deadline, problem = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        try:
            if answer := look():
                return answer
        except (httpx.HTTPError, demo.StageFailed, KeyError) as error:
            problem = f": {error}"
        time.sleep(0.3)
    raise AssertionError(f"Not within {seconds:.0f} s: {what}{problem}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def image_bytes(engine: Engine) -> int:
    return int(engine.docker("image", "inspect", "-f", "{{.Size}}", IMAGE))
