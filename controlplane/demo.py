"""The whole path through the REST API, as a newcomer would walk it: train, export, deploy, predict.

Needs an installation that runs; `make demo` starts one. Ends with 1 and a sentence when a stage fails.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from controlplane import configuration

STAGE_SECONDS = 420
PROCESSES = 2
LEAST_ACCURACY = 0.97
ITEMS = 8


class StageFailed(Exception):
    """What went wrong, in the words of the API."""


class Client:
    """The REST API of one workspace."""

    def __init__(self, web_url: str, key: str, workspace: str) -> None:
        self.http = httpx.Client(
            base_url=f"{web_url}/api/v1/workspaces/{workspace}/",
            headers={"authorization": f"Bearer {key}"},
            timeout=30,
            trust_env=False,
        )

    def get(self, path: str, **query: Any) -> Any:
        return self._answer(self.http.get(path, params=query))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Carries an Idempotency-Key, so a repeat after a lost answer would make nothing twice."""
        return self._answer(self.http.post(path, json=body, headers={"idempotency-key": secrets.token_hex(16)}))

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_success:
            return response.json()
        try:
            problem = response.json()
        except ValueError:
            problem = {"title": response.text[:300]}
        words = [problem.get("detail") or problem.get("title", "")]
        words += [f"{error['field']}: {error['detail']} {error.get('fix', '')}" for error in problem.get("errors", ())]
        raise StageFailed(f"{response.request.method} {response.request.url.path}: {' '.join(words)}")


class Screen:
    """One line a stage, rewritten while it runs where a terminal allows that."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.last = ""

    def progress(self, words: str) -> None:
        if words == self.last:
            return
        self.last = words
        print(f"\r\033[K    {words}" if self.live else f"    {words}", end="" if self.live else "\n", flush=True)

    def done(self, stage: str, seconds: float, words: str) -> None:
        print(f"{chr(13)}\033[K" if self.live else "", end="")
        print(f"  {stage:<11} {seconds:6.1f} s   {words}", flush=True)
        self.last = ""


def follow(client: Client, path: str, screen: Screen, good: set[str], bad: set[str]) -> dict[str, Any]:
    """Wait until a managed row is in a good phase; raises StageFailed for a bad one."""
    deadline = time.monotonic() + STAGE_SECONDS
    while time.monotonic() < deadline:
        row: dict[str, Any] = client.get(path)
        if row["phase"] in good:
            return row
        if row["phase"] in bad:
            raise StageFailed(f"{row['word']}: {row['message']}")
        share = f"{row['progress']:4.0%}  " if row.get("progress") else ""
        screen.progress(f"{share}{row['word']}: {row['message']}")
        time.sleep(0.3)
    raise StageFailed(f"It took longer than {STAGE_SECONDS} s.")


ENDED = {"failed", "cancelled", "rejected", "deleted"}


class Demonstration:
    """The five stages, each with its time; each needs what the one before it made."""

    def __init__(self, client: Client, key: str, screen: Screen) -> None:
        self.client, self.key, self.screen = client, key, screen

    def walk(self) -> None:
        data = self.stage("Dataset", self.dataset)
        run = self.stage("Training", lambda: self.training(data))
        exported = self.stage("Export", lambda: self.export(run))
        served = self.stage("Deployment", lambda: self.deployment(run, exported))
        url = f"{served['url']}/v2/models/digits/infer"
        first, truth = self.stage("Prediction", lambda: self.prediction(data, exported, url))
        print(f"\n  The same call, for one digit (a {truth}), with the key that is in credentials.json:\n")
        print(f"  curl -s {url} \\\n    -H 'Authorization: Bearer {self.key}' -H 'Content-Type: application/json' \\")
        print(f"    -d '{json.dumps(first)}'\n", flush=True)

    def stage(self, name: str, act: Callable[[], tuple[Any, str]]) -> Any:
        begun = time.monotonic()
        result, words = act()
        self.screen.done(name, time.monotonic() - begun, words)
        return result

    def follow(self, path: str, *good: str) -> dict[str, Any]:
        return follow(self.client, path, self.screen, set(good), ENDED)

    def dataset(self) -> tuple[Any, str]:
        found = self.client.get("datasets", name="digits")["items"]
        if not found:
            raise StageFailed("The example dataset “digits” is not there. Was it deleted? Upload one on its page.")
        versions = self.client.get("dataset-versions", dataset=found[0]["id"])["items"]
        row = self.follow(f"dataset-versions/{versions[0]['id']}", "ready")
        return row, row["message"]

    def training(self, data: Any) -> tuple[Any, str]:
        body = {
            "model": "digits",
            "recipe": "image_classifier",
            "dataset_version": data["id"],
            "processes": PROCESSES,
        }
        run = self.client.post("training-runs", body)
        row = self.follow(f"training-runs/{run['id']}", "succeeded")
        accuracy = row["metrics"].get("held_out_accuracy", 0.0)
        if accuracy < LEAST_ACCURACY:
            raise StageFailed(f"Held-out accuracy is {accuracy:.1%}, less than {LEAST_ACCURACY:.0%}.")
        return row, f"{PROCESSES} processes, held-out accuracy {accuracy:.2%}"

    def export(self, run: Any) -> tuple[Any, str]:
        made = self.client.post("exports", {"model_version": run["result"]})
        row = self.follow(f"exports/{made['id']}", "succeeded")
        return row, f"certified: {row['message']}"

    def deployment(self, run: Any, exported: Any) -> tuple[Any, str]:
        made = self.client.post("deployments", {"name": f"digits-{run['number']}", "export": exported["id"]})
        row = self.follow(f"deployments/{made['id']}", "serving")
        return row, row["url"]

    def prediction(self, data: Any, exported: Any, url: str) -> tuple[Any, str]:
        samples = self.client.get(f"dataset-versions/{data['id']}/samples", split="held_out", limit=ITEMS)["items"]
        answer = predict(url, self.key, request(exported["signature"], [sample["features"] for sample in samples]))
        labels = _flat(answer["parameters"]["labels"])
        truth = [str(sample["label"]) for sample in samples]
        right = sum(said == true for said, true in zip(labels, truth, strict=True))
        first = request(exported["signature"], [samples[0]["features"]])
        return (first, truth[0]), f"{right} of {len(truth)} unseen digits right: {' '.join(labels)}"


def _flat(labels: Any) -> list[str]:
    """The labels of the first output, one an item."""
    found = next(iter(labels.values())) if isinstance(labels, dict) else labels
    return [str(label) for label in found]


def request(signature: dict[str, Any], items: list[Any]) -> dict[str, Any]:
    """The body of a prediction: pixels, scaled as the model's signature says."""
    wanted = signature["inputs"][0]
    scale = signature.get("normalise", {}).get("scale", 1.0)
    data = [round(value * scale, 4) for item in items for value in _numbers(item)]
    shape = [len(items), *wanted["shape"][1:]]
    return {"inputs": [{"name": wanted["name"], "datatype": wanted["datatype"], "shape": shape, "data": data}]}


def _numbers(item: Any) -> list[float]:
    return [number for part in item for number in _numbers(part)] if isinstance(item, list) else [item]


def predict(url: str, key: str, body: dict[str, Any]) -> Any:
    """Ask the deployment. A new key or route may take a few seconds to be everywhere."""
    deadline = time.monotonic() + 15
    while True:
        response = httpx.post(url, json=body, headers={"authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
        if response.is_success:
            return response.json()
        if time.monotonic() > deadline:
            raise StageFailed(f"The deployment answered {response.status_code}: {response.text[:300]}")
        time.sleep(0.5)


def main() -> int:
    settings = configuration.load()
    credentials = json.loads((settings.var / "credentials.json").read_text())
    client = Client(settings.web_url, credentials["api_key"], credentials["workspace"])
    print("\nThe example: handwritten digits, from images to predictions\n", flush=True)
    begun = time.monotonic()
    try:
        Demonstration(client, credentials["api_key"], Screen()).walk()
    except (StageFailed, httpx.HTTPError) as error:
        print(f"\n  It stopped here. {error}", file=sys.stderr)
        return 1
    print(f"  Everything in {time.monotonic() - begun:.0f} s. Look at it: {settings.web_url}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
