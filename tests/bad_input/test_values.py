"""Hyperparameters: what can't work is refused at its field; what can't be known before ends the run and says when."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from apps.core import ids
from apps.registry.models import DatasetVersion
from apps.training.models import TrainingRun
from tests.bad_input.conftest import World


def table() -> bytes:
    content = io.BytesIO()
    generator = np.random.default_rng(7)
    features = generator.normal(size=(60, 3)).astype(np.float32)
    np.savez(content, features=features, labels=(features[:, 0] > 0).astype(np.int64))
    return content.getvalue()


@pytest.fixture(scope="module")
def data(world: World) -> DatasetVersion:
    version = world.dataset_version(table(), "table.npz")
    told = world.end(version)
    assert told["phase"] == "ready", told
    return version


def post(world: World, data: DatasetVersion, processes: int = 1, **hyperparameters: Any) -> Any:
    body = {
        "model": "values",
        "recipe": "table_classifier",
        "dataset_version": data.typed_id,
        "processes": processes,
        "hyperparameters": hyperparameters,
    }
    return world.api.post("training-runs", body)


@pytest.mark.parametrize(
    ("processes", "given", "field", "detail", "fix"),
    [
        (1, {"lerning_rate": 1}, "lerning_rate", "lerning_rate is no hyperparameter.", "Did you mean learning_rate?"),
        (1, {"epochs": 0}, "epochs", "0 is too small.", "Use 1 or more."),
        (1, {"learning_rate": -1}, "learning_rate", "-1 is too small.", "Use 0 or more."),
        (1, {"learning_rate": "fast"}, "learning_rate", "'fast' is not a number.", "Use one such as 0.002."),
        (1, {"optimiser": "lion"}, "optimiser", "'lion' is not possible.", "Use one of: adamw, sgd."),
        (4, {"batch_size": 42}, "batch_size", "42 does not divide by 4 processes.", "Use 40 or 44."),
        (1, {"batch_size": 512}, "batch_size", "512 is more than the 48 training items.", "Use 48 or less."),
    ],
)
def test_what_can_not_work_is_refused(
    world: World, data: DatasetVersion, processes: int, given: dict[str, Any], field: str, detail: str, fix: str
) -> None:
    runs = TrainingRun.objects.count()
    answer = post(world, data, processes, **given)
    assert (answer.status_code, answer.json()["code"]) == (422, "ValidationFailed")
    (error,) = answer.json()["errors"]
    assert error == {"field": f"hyperparameters.{field}", "detail": detail, "fix": fix}
    assert TrainingRun.objects.count() == runs


def test_all_that_is_wrong_is_told_at_once(world: World, data: DatasetVersion) -> None:
    answer = post(world, data, 1, epochs=0, seed=-1, precision="fp8")
    assert [error["field"] for error in answer.json()["errors"]] == [
        "hyperparameters.epochs",
        "hyperparameters.precision",
        "hyperparameters.seed",
    ]


@pytest.mark.parametrize(
    "value",
    [
        '{"a": ["\\u0000"]}',
        '{"a\\ud800": 1}',
        '{"a": NaN}',
        '{"a": 1e999}',
        "[1]",
        '"a"',
        '{"a":' * 900 + "1" + "}" * 900,
        "[" * 9000,
    ],
)
def test_what_no_row_can_hold_is_refused(world: World, value: str) -> None:
    script = world.upload(b"print('never')\n")
    body = f'{{"model": "values", "script": "{script}", "hyperparameters": {value}}}'.encode()
    answer = world.api.post("training-runs", body)
    assert 400 <= answer.status_code < 500, answer.json()
    assert answer.json()["detail"]


def test_a_run_that_diverges_ends_and_names_the_step(world: World, data: DatasetVersion) -> None:
    answer = post(world, data, batch_size=16, steps=8, learning_rate=1e12, optimiser="sgd", gradient_clip=None)
    assert answer.status_code == 201, answer.json()
    run = TrainingRun.objects.get(pk=ids.parse(TrainingRun.prefix, answer.json()["id"]))
    told = world.end(run)
    assert (told["phase"], told["reason"]) == ("failed", "Diverged"), told
    step = told["step"] + 1
    assert f" became NaN at step {step}. " in told["message"] or f" became infinite at step {step}. " in told["message"]
    assert " times the recipe's" in told["message"]
    assert told["message"].endswith("Start again with 0.002, or change anything in a clone.")
    world.nothing_left()
    world.goes_on()
