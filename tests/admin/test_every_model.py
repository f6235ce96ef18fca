"""Every model has its list, its page, and shows nothing that opens a door."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.test import Client
from django_celery_beat.models import PeriodicTasks

from tests.admin.conftest import Planted
from tests.admin.pages import list_of, page_of

OURS = {
    model
    for config in apps.get_app_configs()
    if config.name.startswith("apps.") or config.name == "django_celery_beat"
    for model in config.get_models()
}


def test_all_models_are_registered() -> None:
    assert set(admin.site._registry) >= OURS
    assert len(OURS) > 25


def test_every_page_answers_and_keeps_secrets(root: Client, everything: dict[Any, Any], planted: Planted) -> None:
    assert set(everything) >= OURS - {PeriodicTasks}
    addresses = ["/admin/"]
    for model in admin.site._registry:
        addresses += [list_of(model), list_of(model, q="nothing-of-this-name")]
    for row in everything.values():
        addresses += [page_of(row), page_of(row).removesuffix("change/") + "history/", list_of(type(row), q=str(row))]
    assert len(planted.values) >= 8
    for address in addresses:
        response = root.get(address)
        assert response.status_code == 200, address
        page = response.content.decode()
        for name, value in planted.values.items():
            assert value not in page, f"{address} shows {name}"


def test_pages_can_be_added_where_they_may(root: Client, everything: dict[Any, Any]) -> None:
    for model, console in admin.site._registry.items():
        response = root.get(list_of(model) + "add/")
        assert response.status_code == (200 if console.addable else 403), model  # type: ignore[attr-defined]


def test_nothing_is_deleted_by_hand(root: Client, everything: dict[Any, Any]) -> None:
    for row in everything.values():
        address = page_of(row).removesuffix("change/") + "delete/"
        assert root.post(address, {"post": "yes"}).status_code == 403
        assert type(row).objects.filter(pk=row.pk).exists()
