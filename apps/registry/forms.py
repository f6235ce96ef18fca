"""Forms for uploads, and for exporting a version."""

from __future__ import annotations

from typing import Any

from django import forms

DECIMAL = forms.TextInput(attrs={"inputmode": "decimal"})
NAME = forms.TextInput(attrs={"autocapitalize": "off", "spellcheck": "false", "class": "mono"})


class UploadForm(forms.Form):
    name = forms.CharField(
        label="Name",
        max_length=63,
        widget=NAME,
        help_text="Lower-case letters, digits and hyphens, such as parts-photos.",
    )

    def __init__(self, *args: Any, fixed_name: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if fixed_name:
            del self.fields["name"]


class DatasetForm(UploadForm):
    file = forms.FileField(
        label="File",
        help_text="npz, a zip of image folders (one a class), CSV, Parquet or JSON Lines. "
        "It is read by a caged program, never by the server.",
    )
    held_out_percent = forms.FloatField(
        label="Held out",
        initial=20,
        widget=DECIMAL,
        min_value=0.1,
        max_value=99.9,
        help_text="Items that no run may learn from.",
        error_messages=dict.fromkeys(
            ("invalid", "min_value", "max_value"), "Write a number from 0.1 to 99.9, such as 20."
        ),
    )
    seed = forms.IntegerField(label="Seed of the split", initial=7, min_value=0)
    label_column = forms.CharField(
        label="Column of the class",
        required=False,
        help_text="For CSV, Parquet and JSON Lines. Empty: label, class or target.",
    )
    image_size = forms.IntegerField(
        label="Image size",
        required=False,
        min_value=1,
        help_text="Pixels a side, for zips of images. Empty: the most common.",
    )
    skip_bad_rows = forms.BooleanField(label="Leave out rows that can't be read", required=False)

    def options(self) -> dict[str, Any]:
        values = self.cleaned_data
        found = {
            "held_out_fraction": values["held_out_percent"] / 100,
            "seed": values["seed"],
            "label_column": values["label_column"] or None,
            "image_size": values["image_size"],
            "skip_bad_rows": values["skip_bad_rows"] or None,
        }
        return {name: value for name, value in found.items() if value is not None}


class ModelForm(UploadForm):
    file = forms.FileField(
        label="File", help_text="ONNX. Pickles are refused, because opening one runs its code: export to ONNX first."
    )
