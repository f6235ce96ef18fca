"""Addresses of the console, and its forms as a browser sends them."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.urls import reverse


def list_of(model: Any, **query: str) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist", query=query or None)


def page_of(row: Any) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=(row.pk,))


def do(client: Any, row: Any, operation: str) -> Any:
    """Do something to one row, from its page, having confirmed it; gives the page that follows."""
    url = page_of(row).removesuffix("change/") + f"{operation}/"
    return client.post(url, {"confirmed": "yes"}, follow=True)


def do_all(client: Any, rows: list[Any], operation: str, confirmed: bool = True) -> Any:
    """Do something to selected rows of a list."""
    data = {"action": operation, ACTION_CHECKBOX_NAME: [str(row.pk) for row in rows]}
    if confirmed:
        data["confirmed"] = "yes"
    else:
        data["index"] = "0"
    return client.post(list_of(type(rows[0])), data, follow=True)


def words(response: Any) -> str:
    return " ".join(str(message) for message in response.context["messages"])
