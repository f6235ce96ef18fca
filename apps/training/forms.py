"""The form of a new training run, made from the table of hyperparameters that the API and the programs use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms

from apps.registry.models import DatasetVersion
from apps.training.hyperparameters import RECIPES, Hyperparameter, parameters
from apps.training.models import TrainingRun

MAIN = ("epochs", "batch_size", "learning_rate")
GIB = 1024**3
DECIMAL = forms.TextInput(attrs={"inputmode": "decimal"})


def between(least: float, most: float, unit: str) -> Callable[[float], None]:
    """The service checks too, in the API's units; this speaks in the field's own."""

    def check(value: float) -> None:
        if not least <= value <= most:
            raise forms.ValidationError(
                f"{value:,g} is too {'small' if value < least else 'large'}. Use {least:g} to {most:,g} {unit}."
            )

    return check


class RunForm(forms.Form):
    """`main`: the settings that matter most; `more`: the rest, folded away. Checked fully by the service.

    A clone of a run with a script of its own (`source`) keeps the script, and takes its hyperparameters as JSON.
    """

    recipe = forms.ChoiceField(label="Recipe", choices=[(item.name, item.title) for item in RECIPES.values()])
    dataset_version = forms.ChoiceField(label="Dataset")
    model = forms.CharField(
        label="Model",
        max_length=63,
        help_text="What the run makes becomes its next version. A new name makes a new model.",
        widget=forms.TextInput(attrs={"autocapitalize": "off", "spellcheck": "false"}),
    )
    processes = forms.IntegerField(label="Processes", initial=2, help_text="Each holds the whole model.")
    memory_gib = forms.FloatField(
        label="Memory a process",
        initial=1.5,
        widget=DECIMAL,
        help_text="One that needs more is stopped, and says so.",
        error_messages={"invalid": "Write the number with a point, such as 1.5."},
        validators=[between(0.25, 1024, "GiB")],
    )
    deadline_hours = forms.FloatField(
        label="Stop it after",
        initial=3,
        widget=DECIMAL,
        help_text="Its last checkpoint is kept.",
        error_messages={"invalid": "Write the number with a point, such as 0.5."},
        validators=[between(0.01, 720, "hours")],
    )

    def __init__(
        self,
        *args: Any,
        versions: list[DatasetVersion],
        recipe: str,
        source: TrainingRun | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        choices = [(version.typed_id, f"{version.name}, {version.items or 0:,} items") for version in versions]
        self.script_name = source.script_name if source and source.script_id else ""
        self.parameters: tuple[Hyperparameter, ...] = ()
        if self.script_name:
            choices = [("", "No dataset"), *choices]
            self.fields["dataset_version"].required = False
            del self.fields["recipe"]
            self.fields["hyperparameters"] = _script_field()
        else:
            self.parameters = tuple(parameters(recipe if recipe in RECIPES else next(iter(RECIPES))))
        self.fields["dataset_version"].choices = choices  # type: ignore[attr-defined]
        for item in self.parameters:
            self.fields[item.name] = _field(item)
        self.order_fields(["recipe", "dataset_version", "model", "processes", *(item.name for item in self.parameters)])

    @property
    def main(self) -> list[forms.BoundField]:
        return [self["hyperparameters"]] if self.script_name else [self[name] for name in MAIN]

    @property
    def more(self) -> list[forms.BoundField]:
        return [self[item.name] for item in self.parameters if item.name not in MAIN]

    @property
    def more_open(self) -> bool:
        return any(field.errors for field in self.more)

    def hyperparameters(self) -> dict[str, Any]:
        """As the service takes them: what was left empty is null where that means something, else the default."""
        if self.script_name:
            return self.cleaned_data["hyperparameters"] or {}
        values = {item.name: self.cleaned_data.get(item.name) for item in self.parameters}
        optional = {item.name for item in self.parameters if item.optional}
        return {name: value for name, value in values.items() if value not in (None, "") or name in optional}


def _script_field() -> forms.Field:
    return forms.JSONField(
        label="Hyperparameters",
        required=False,
        widget=forms.Textarea,
        help_text="A JSON object; the script reads it from WINDLASS_HYPERPARAMETERS.",
        error_messages={"invalid": 'This is no JSON. {"learning_rate": 0.001} would work.'},
    )


def _field(item: Hyperparameter) -> forms.Field:
    common: dict[str, Any] = {
        "label": item.name.replace("_", " ").capitalize(),
        "help_text": item.help,
        "initial": item.default,
        "required": not item.optional and item.type != "boolean",
    }
    if item.type == "choice":
        return forms.ChoiceField(choices=[(choice, choice) for choice in item.choices], **common)
    if item.type == "boolean":
        return forms.BooleanField(**common)
    if item.type == "integer":
        wrong = f"This is no whole number. {item.default or 100} would work."
        return forms.IntegerField(
            error_messages={"invalid": wrong}, widget=forms.TextInput(attrs={"inputmode": "numeric"}), **common
        )
    wrong = f"Write the number with a point: {item.default or 0.001:g}. A comma is not understood."
    return forms.FloatField(error_messages={"invalid": wrong}, widget=DECIMAL, **common)


def values_of(run: TrainingRun) -> dict[str, Any]:
    """The form's values for a clone of `run`."""
    version = run.dataset_version
    return {
        "recipe": run.recipe,
        "dataset_version": version.typed_id if version else "",
        "model": run.model.name,
        "processes": run.processes,
        "memory_gib": round(run.memory_bytes_per_process / GIB, 2),
        "deadline_hours": f"{run.deadline_seconds / 3600:.3f}".rstrip("0").rstrip("."),
        **({"hyperparameters": run.hyperparameters} if run.script_id else run.hyperparameters),
    }
