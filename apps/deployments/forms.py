"""Forms of a deployment."""

from django import forms

GIB = 1024**3
DECIMAL = forms.TextInput(attrs={"inputmode": "decimal"})


class ScaleForm(forms.Form):
    replicas = forms.IntegerField(
        label="Replicas", error_messages={"invalid": "This is no whole number. 2 would work."}
    )
    cpus = forms.FloatField(label="Processors a replica", widget=DECIMAL)
    memory_gib = forms.FloatField(label="Memory a replica", widget=DECIMAL)

    @property
    def spec(self) -> dict[str, float | int]:
        values = self.cleaned_data
        return {
            "replicas": values["replicas"],
            "cpus": values["cpus"],
            "memory_bytes": int(values["memory_gib"] * GIB),
        }
