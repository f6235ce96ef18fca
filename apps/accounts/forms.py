"""Forms of the settings."""

from __future__ import annotations

from typing import Any

from django import forms

from apps.accounts.models import Role

ROLE_HELP = {
    Role.VIEWER.value: "Viewer, reads everything",
    Role.DEVELOPER.value: "Developer, also starts, changes and deletes things",
    Role.ADMIN.value: "Admin, also members, keys and secrets",
}


class KeyForm(forms.Form):
    name = forms.CharField(label="Name", max_length=80, help_text="What uses it, such as notebook.")
    role = forms.ChoiceField(
        label="In the API",
        required=False,
        choices=[("", "Nothing, predictions only"), *ROLE_HELP.items()],
    )
    may_predict = forms.BooleanField(label="May ask deployments", required=False, initial=True)
    deployments = forms.MultipleChoiceField(
        label="Only these deployments",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: all of the workspace.",
    )
    requests_per_minute = forms.IntegerField(label="Requests a minute at most", required=False, min_value=1)
    expires_at = forms.DateField(
        label="Ends on", required=False, widget=forms.DateInput(attrs={"type": "date"}), help_text="Empty: never."
    )

    def __init__(self, *args: Any, deployments: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["deployments"].choices = deployments  # type: ignore[attr-defined]
        if not deployments:
            del self.fields["deployments"]


class MemberForm(forms.Form):
    email = forms.EmailField(label="Email", help_text="Who has no account yet gets one, and a link that signs in once.")
    role = forms.ChoiceField(label="Role", choices=list(ROLE_HELP.items()), initial=Role.DEVELOPER.value)


class SecretForm(forms.Form):
    name = forms.CharField(label="Name", max_length=60, help_text="Workloads find it as a file of this name.")
    value = forms.CharField(
        label="Value",
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
        help_text="It is stored encrypted, and no page shows it again.",
        strip=False,
    )
