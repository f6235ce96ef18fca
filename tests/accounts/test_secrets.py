"""Secrets go in and never come out again."""

from __future__ import annotations

import pytest

from apps.accounts import services
from apps.accounts.models import AuditEntry, Secret, Workspace
from apps.core.actor import WINDLASS
from apps.core.errors import Invalid
from apps.core.sealing import CannotUnseal, unseal_field

pytestmark = pytest.mark.django_db


def test_a_secret_is_sealed_to_its_own_row(workspace: Workspace) -> None:
    secret = services.set_secret(workspace, WINDLASS, name="token", value="hush")
    assert "hush" not in str(Secret.objects.values_list().get())
    assert unseal_field(secret, "sealed") == b"hush"
    other = services.set_secret(workspace, WINDLASS, name="other", value="quiet")
    other.sealed = secret.sealed
    with pytest.raises(CannotUnseal):
        unseal_field(other, "sealed")


def test_setting_it_again_changes_the_value_and_keeps_the_id(workspace: Workspace) -> None:
    first = services.set_secret(workspace, WINDLASS, name="token", value="one")
    second = services.set_secret(workspace, WINDLASS, name="token", value="two")
    assert first.pk == second.pk and unseal_field(Secret.objects.get(), "sealed") == b"two"


def test_the_trail_tells_that_it_was_set_and_not_what(workspace: Workspace) -> None:
    services.remove_secret(services.set_secret(workspace, WINDLASS, name="token", value="hush"), WINDLASS)
    entries = AuditEntry.objects.filter(action__startswith="secret.").order_by("pk")
    assert [entry.action for entry in entries] == ["secret.set", "secret.remove"]
    assert "hush" not in str(list(entries.values_list()))


def test_values_that_can_not_be(workspace: Workspace) -> None:
    for name, value, field in (("My Token", "x", "name"), ("token", "", "value"), ("token", "x" * 70_000, "value")):
        with pytest.raises(Invalid) as caught:
            services.set_secret(workspace, WINDLASS, name=name, value=value)
        assert caught.value.errors[0].field == field
