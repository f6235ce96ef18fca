"""How many queries a list takes does not depend on how long it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from tests.api import rows
from tests.pages.addresses import ROOT
from tests.pages.conftest import CERTIFICATE, SIGNATURE, serving, trained

pytestmark = pytest.mark.django_db
LISTS = ("", "datasets/", "training/", "models/", "exports/", "deployments/", "placements/", "hosts/", "events/")
MOST = 40


def counts(client: Client, paths: list[str]) -> dict[str, int]:
    found = {}
    for path in paths:
        client.get(ROOT + path)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(ROOT + path).status_code == 200
        found[path] = len(queries)
    return found


def grow(workspace: Workspace, busy: SimpleNamespace, letter: str) -> None:
    for number in range(3):
        run = trained(workspace, busy.data)
        trained(workspace, busy.data, "training")
        version = rows.model_version(workspace, f"model-{letter}{number}")
        rows.ended(run, "succeeded", result=version)
        export = rows.create_export(workspace, WINDLASS, model_version=version, dataset_version=busy.data)
        rows.ended(export, "succeeded", certificate=CERTIFICATE, signature=SIGNATURE)
        serving(workspace, export, f"d-{letter}{number}")
        rows.dataset_version(workspace, f"set-{letter}{number}")


def test_lists_and_pages(admin: Client, workspace: Workspace, busy: SimpleNamespace, tmp_path: Path) -> None:
    paths = [*LISTS, f"models/{busy.version.model.typed_id}/", f"deployments/{busy.deployment.typed_id}/"]
    grow(workspace, busy, "a")  # so that every kind stands in the lists already: each costs one query for its names
    before = counts(admin, paths)
    grow(workspace, busy, "b")
    for _ in range(3):  # the same thing, with more inside
        export = rows.create_export(workspace, WINDLASS, model_version=busy.version)
        rows.ended(export, "succeeded", certificate=CERTIFICATE, signature=SIGNATURE)
    after = counts(admin, paths)
    assert after == before
    assert max(after.values()) <= MOST, after


def test_a_list_is_cut_into_pages(
    admin: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, busy: SimpleNamespace
) -> None:
    monkeypatch.setattr("apps.core.pages.lists.PAGE_ROWS", 2)
    seen: list[str] = []
    address = f"{ROOT}training/"
    while address:
        text = admin.get(address).content.decode()
        seen += [line.split('"')[0] for line in text.split('<tr id="')[1:]]
        found = text.partition('<a class="button" href="?before=')[2]
        address = f"{ROOT}training/?before={found.split(chr(34))[0]}" if found and "Show 50 older" in text else ""
    assert seen == sorted(seen, reverse=True) and len(seen) == 4 == len(set(seen))


def test_filters_stand_in_the_url(admin: Client, busy: SimpleNamespace) -> None:
    text = admin.get(f"{ROOT}training/?phase=failed").content.decode()
    assert busy.failed.typed_id in text and f'<tr id="{busy.run.typed_id}"' not in text
    assert "No run matches" in admin.get(f"{ROOT}training/?phase=queued").content.decode()
