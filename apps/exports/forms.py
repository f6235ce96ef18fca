"""The forms of an export and of deploying one; tolerances in the units that people say them in."""

from __future__ import annotations

from typing import Any

from django import forms

from apps.exports.tolerances import OPTIMISATIONS

DECIMAL = forms.TextInput(attrs={"inputmode": "decimal"})
WRONG = "Write a number with a point, such as {}."


class ExportForm(forms.Form):
    """Empty tolerances mean the usual ones, which depend on the optimisation."""

    optimisation = forms.ChoiceField(
        label="Optimisation",
        choices=[(name, title) for name, title in OPTIMISATIONS.items()],
        help_text="int8 is smaller; whether it is faster depends on the machine, and the certificate says.",
    )
    accuracy_drop_points = forms.FloatField(
        label="Accuracy may fall by",
        initial=1,
        widget=DECIMAL,
        min_value=0,
        max_value=100,
        error_messages={"invalid": WRONG.format("0.5")},
    )
    agreement_percent = forms.FloatField(
        label="Answers that must stay the same",
        initial=99,
        widget=DECIMAL,
        min_value=0,
        max_value=100,
        error_messages={"invalid": WRONG.format("99.5")},
    )
    max_abs_difference = forms.FloatField(
        label="Largest output difference",
        required=False,
        widget=DECIMAL,
        min_value=0,
        help_text="Empty: 0.0001 without optimisation, 0.5 with int8.",
        error_messages={"invalid": WRONG.format("0.5")},
    )

    def tolerances(self) -> dict[str, float]:
        values = self.cleaned_data
        found = {
            "accuracy_drop": values["accuracy_drop_points"] / 100,
            "agreement": values["agreement_percent"] / 100,
            "max_abs_difference": values["max_abs_difference"],
        }
        return {name: limit for name, limit in found.items() if limit is not None}


class DeployForm(forms.Form):
    """`target`: a new deployment, or the typed id of one that gets a new revision. `override_reason` only for a
    rejected export."""

    target = forms.ChoiceField(label="Where to")
    name = forms.CharField(
        label="Name",
        max_length=63,
        required=False,
        widget=forms.TextInput(attrs={"autocapitalize": "off", "spellcheck": "false"}),
        help_text="Part of its URL.",
    )
    replicas = forms.IntegerField(label="Replicas", initial=1)
    note = forms.CharField(label="Note", max_length=200, required=False)
    override_reason = forms.CharField(
        label="Why it is served all the same",
        max_length=1000,
        widget=forms.Textarea,
        help_text="The audit trail keeps it, with your name.",
    )

    def __init__(self, *args: Any, deployments: list[tuple[str, str]], rejected: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        new = [("", "A new deployment")]
        self.fields["target"].choices = [*new, *((key, f"New revision of {name}") for key, name in deployments)]  # type: ignore[attr-defined]
        self.fields["target"].required = False
        if not deployments:
            del self.fields["target"]
        if not rejected:
            del self.fields["override_reason"]
