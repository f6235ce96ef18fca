"""What can be set for a training run: one table that the API validates with, the pages render and programs read.

Standard library only: the training program imports it too. `table(recipe)` is the JSON form.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, Literal

Type = Literal["integer", "number", "choice", "boolean"]


@dataclass(frozen=True)
class Hyperparameter:
    """`minimum` and `maximum` are inclusive. `optional`: null is allowed and means what `help` says."""

    name: str
    type: Type
    default: int | float | str | bool | None
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Recipe:
    """`defaults` replace those of the common table, `without` leaves some out of it.

    `dataset_kind`: the kind of dataset it learns from.
    """

    name: str
    title: str
    dataset_kind: Literal["image", "table", "text"]
    defaults: dict[str, int | float | str | bool | None]
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Why hyperparameters can't be used. `code` is CamelCase; `field` is the name of one of them."""

    code: str
    field: str
    message: str


COMMON: tuple[Hyperparameter, ...] = (
    Hyperparameter("epochs", "integer", 20, "How often each training item is seen.", 1, 100_000),
    Hyperparameter(
        "steps",
        "integer",
        None,
        "Optimiser steps in all, instead of epochs. Empty: by epochs.",
        1,
        10**9,
        optional=True,
    ),
    Hyperparameter("batch_size", "integer", 64, "Items of one optimiser step, over all processes.", 1, 1_048_576),
    Hyperparameter("learning_rate", "number", 1e-3, "The highest learning rate.", 0.0, 1e12),
    Hyperparameter(
        "schedule",
        "choice",
        "cosine",
        "How the learning rate goes on after the warm-up.",
        choices=("cosine", "constant"),
    ),
    Hyperparameter("warmup_steps", "integer", 0, "Steps in which the learning rate rises from 0.", 0, 10**9),
    Hyperparameter("optimiser", "choice", "adamw", "sgd has a momentum of 0.9.", choices=("adamw", "sgd")),
    Hyperparameter("weight_decay", "number", 0.01, "How strongly weights are pulled towards 0.", 0.0, 10.0),
    Hyperparameter(
        "gradient_clip",
        "number",
        1.0,
        "The largest norm of a step's gradient. Empty: no limit.",
        1e-6,
        1e12,
        optional=True,
    ),
    Hyperparameter(
        "accumulation", "integer", 1, "Parts that each process splits its share of a batch into.", 1, 65_536
    ),
    Hyperparameter(
        "precision", "choice", "fp32", "bf16 computes in 16 bits; weights stay in 32.", choices=("fp32", "bf16")
    ),
    Hyperparameter("seed", "integer", 0, "The same seed and processes give the same model.", 0, 2**31 - 1),
    Hyperparameter("augment", "boolean", True, "Vary the training items at random, as the recipe does it."),
    Hyperparameter(
        "checkpoint_every_steps", "integer", 200, "A killed run goes on from the last checkpoint.", 1, 10**9
    ),
    Hyperparameter(
        "evaluate_every_steps",
        "integer",
        None,
        "Steps between evaluations. Empty: once an epoch.",
        1,
        10**9,
        optional=True,
    ),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "image_classifier",
            "Image classifier (ResNet)",
            "image",
            {"epochs": 20, "learning_rate": 4e-3, "warmup_steps": 20, "weight_decay": 0.05},
        ),
        Recipe(
            "table_classifier",
            "Table classifier (MLP)",
            "table",
            {"epochs": 40, "learning_rate": 2e-3},
            without=("augment",),
        ),
    )
}


def parameters(recipe: str) -> tuple[Hyperparameter, ...]:
    """Those of the recipe, with its own defaults. Raises KeyError for an unknown recipe."""
    defaults, without = RECIPES[recipe].defaults, RECIPES[recipe].without
    return tuple(
        dataclasses.replace(item, default=defaults.get(item.name, item.default))
        for item in COMMON
        if item.name not in without
    )


def table(recipe: str) -> list[dict[str, Any]]:
    """JSON-able, in the order in which a form shows it. Raises KeyError for an unknown recipe."""
    return [dataclasses.asdict(item) | {"choices": list(item.choices)} for item in parameters(recipe)]


def complete(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """With the recipe's default for each that is absent. Valid ones only: raises KeyError for an unknown recipe."""
    recipe = hyperparameters["recipe"]
    return {"recipe": recipe} | {item.name: hyperparameters.get(item.name, item.default) for item in parameters(recipe)}


def validate(hyperparameters: dict[str, Any], processes: int, training_items: int | None = None) -> list[Problem]:
    """All problems at once, none for a run that may start. `training_items`: of the dataset, where it is known."""
    recipe = hyperparameters.get("recipe")
    if not isinstance(recipe, str) or recipe not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        return [Problem("UnknownRecipe", "recipe", f"{_shown(recipe)} is no recipe. Use one of: {known}.")]
    known_parameters = {item.name: item for item in parameters(recipe)}
    problems = [
        _unknown(name, known_parameters) for name in hyperparameters if name not in {"recipe", *known_parameters}
    ]
    for item in known_parameters.values():
        if item.name in hyperparameters and (message := _wrong(item, hyperparameters[item.name])):
            problems.append(Problem("Hyperparameter", item.name, message))
    if problems:
        return problems
    completed = complete(hyperparameters)
    return _batch_problems(completed["batch_size"], completed["accumulation"], processes, training_items)


def _batch_problems(batch_size: int, accumulation: int, processes: int, training_items: int | None) -> list[Problem]:
    parts = processes * accumulation
    ceiling = None if training_items is None else training_items // parts * parts
    if training_items is not None and (batch_size > training_items or not ceiling):
        fix = f"Use {ceiling} or less." if ceiling else f"Use at most {training_items} processes."
        return [
            Problem("BatchSize", "batch_size", f"{batch_size} is more than the {training_items} training items. {fix}")
        ]
    if batch_size % parts:
        divisor = _count(processes, "process", "processes")
        if accumulation > 1:
            divisor += f" with {accumulation} parts each"
        lower = batch_size // parts * parts
        upper = lower + parts
        fix = (
            f"Use {lower} or {upper}." if lower and (ceiling is None or upper <= ceiling) else f"Use {lower or upper}."
        )
        return [Problem("BatchSize", "batch_size", f"{batch_size} does not divide by {divisor}. {fix}")]
    return []


def _unknown(name: str, known: dict[str, Hyperparameter]) -> Problem:
    near = difflib.get_close_matches(name, known, 1)
    fix = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
    return Problem("UnknownHyperparameter", name, f"{name} is no hyperparameter. {fix}")


def _wrong(item: Hyperparameter, value: object) -> str | None:
    if value is None:
        return None if item.optional else f"{item.name} can't be empty. Use {_shown(item.default)}, the default."
    if item.type == "choice":
        fits = value in item.choices if isinstance(value, str) else False
        return None if fits else f"{_shown(value)} is not possible. Use one of: {', '.join(item.choices)}."
    if item.type == "boolean":
        return None if isinstance(value, bool) else f"{_shown(value)} is not true or false. Use true."
    kinds = (int,) if item.type == "integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        wanted = "a whole number" if item.type == "integer" else "a number"
        example = 100 if item.default is None else item.default
        return f"{_shown(value)} is not {wanted}. Use one such as {_shown(example)}."
    if item.minimum is not None and value < item.minimum:
        return f"{value} is too small. Use {_bound(item, item.minimum)} or more."
    if item.maximum is not None and value > item.maximum:
        return f"{value} is too large. Use {_bound(item, item.maximum)} or less."
    return None


def _bound(item: Hyperparameter, bound: float) -> str:
    return str(int(bound)) if item.type == "integer" else f"{bound:g}"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)[:80]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
