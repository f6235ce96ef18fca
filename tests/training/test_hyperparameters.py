"""The table of hyperparameters: what is wrong is said with a value that would work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apps.training.hyperparameters import RECIPES, complete, table, validate

ROOT = Path(__file__).resolve().parents[2]


def messages(hyperparameters: dict[str, Any], processes: int = 2, items: int | None = None) -> list[str]:
    return [problem.message for problem in validate(hyperparameters, processes, items)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs_with_its_defaults(recipe: str):
    assert validate(complete({"recipe": recipe}), 2, 1437) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_table_is_json_and_its_defaults_are_within_their_bounds(recipe: str):
    for row in json.loads(json.dumps(table(recipe))):
        assert row["help"]
        if row["default"] is None:
            assert row["optional"]
        elif row["type"] in {"integer", "number"}:
            assert row["minimum"] <= row["default"] <= row["maximum"]


def test_complete_keeps_what_is_given():
    completed = complete({"recipe": "image_classifier", "epochs": 3})
    assert completed["epochs"] == 3
    assert completed["optimiser"] == "adamw"


def test_a_batch_that_does_not_divide_names_the_ones_that_do():
    problems = validate({"recipe": "image_classifier", "batch_size": 510}, 4)
    assert [(problem.code, problem.field) for problem in problems] == [("BatchSize", "batch_size")]
    assert problems[0].message == "510 does not divide by 4 processes. Use 508 or 512."


def test_a_batch_smaller_than_the_processes_names_the_smallest():
    assert messages({"recipe": "image_classifier", "batch_size": 3}, 4) == ["3 does not divide by 4 processes. Use 4."]


def test_accumulation_counts_as_a_divisor():
    assert messages({"recipe": "image_classifier", "batch_size": 12, "accumulation": 4}, 2) == [
        "12 does not divide by 2 processes with 4 parts each. Use 8 or 16."
    ]


def test_a_batch_larger_than_the_training_items_names_the_largest():
    assert messages({"recipe": "image_classifier", "batch_size": 2048}, 2, 1437) == [
        "2048 is more than the 1437 training items. Use 1436 or less."
    ]


def test_a_suggested_batch_never_exceeds_the_training_items():
    assert messages({"recipe": "image_classifier", "batch_size": 98}, 4, 99) == [
        "98 does not divide by 4 processes. Use 96."
    ]


def test_more_processes_than_training_items_are_refused():
    assert messages({"recipe": "image_classifier", "batch_size": 4}, 4, 3) == [
        "4 is more than the 3 training items. Use at most 3 processes."
    ]


def test_an_unknown_name_gets_the_nearest():
    assert messages({"recipe": "image_classifier", "learning_rat": 1}) == [
        "learning_rat is no hyperparameter. Did you mean learning_rate?"
    ]


def test_an_unknown_recipe_gets_the_known():
    assert messages({"recipe": "resnet"}) == ["'resnet' is no recipe. Use one of: image_classifier, table_classifier."]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "0 is too small. Use 1 or more."),
        ("epochs", 2.5, "2.5 is not a whole number. Use one such as 20."),
        ("epochs", True, "True is not a whole number. Use one such as 20."),
        ("steps", "many", "'many' is not a whole number. Use one such as 100."),
        ("learning_rate", float("nan"), "nan is not a number. Use one such as 0.004."),
        ("learning_rate", None, "learning_rate can't be empty. Use 0.004, the default."),
        ("seed", 2**31, "2147483648 is too large. Use 2147483647 or less."),
        ("precision", "fp8", "'fp8' is not possible. Use one of: fp32, bf16."),
        ("augment", "yes", "'yes' is not true or false. Use true."),
    ],
)
def test_a_wrong_value_gets_one_that_works(name: str, value: Any, message: str):
    problems = validate({"recipe": "image_classifier", name: value}, 2)
    assert [(problem.field, problem.message) for problem in problems] == [(name, message)]


def test_all_problems_are_told_at_once():
    assert len(messages({"recipe": "image_classifier", "epochs": 0, "seed": -1, "optimizer": "sgd"})) == 3


def test_the_table_needs_the_standard_library_only():
    script = (
        "import sys, apps.training.hyperparameters as h; "
        "print([m for m in sys.modules if m.split('.')[0] in {'torch', 'numpy', 'django', 'rest_framework'}])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
