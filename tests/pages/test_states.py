"""Every page renders in every state, says what it must, and holds nothing that the policy would refuse."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.deployments.models import Deployment
from apps.registry.models import DatasetVersion, ModelVersion
from tests.api import rows
from tests.pages.addresses import OF_NOTHING, ROOT, of_data, of_rows

pytestmark = pytest.mark.django_db
INLINE = re.compile(r"<[^>]+\s(?:style|on[a-z]+)\s*=|<script(?![^>]*\ssrc=)[^>]*>|javascript:", re.IGNORECASE)
UNSAID = re.compile(r"successfully|please|oops|Submit<|(?-i:>None<)|&lt;QuerySet", re.IGNORECASE)


def checked(answer: Any, path: str) -> str:
    assert answer.status_code == 200, f"{path}: {answer.status_code}"
    text = str(answer.content.decode())
    assert not (found := INLINE.search(text)), f"{path}: {found}"
    body = re.sub(r"<pre>.*?</pre>|<script.*?</script>", "", text, flags=re.DOTALL)
    assert not (found := UNSAID.search(body)), f"{path}: {found}"
    if "<html" in text:
        assert text.count("<h1") == 1, path
        identifiers = re.findall(r'\sid="([^"]+)"', text)
        assert len(identifiers) == len(set(identifiers)), f"{path}: {sorted(identifiers)}"
        posts = re.findall(r'<form[^>]*method="post"[^>]*>.*?</form>', text, re.DOTALL)
        assert all("csrfmiddlewaretoken" in form for form in posts), path
    return text


def test_every_page_of_an_empty_workspace(admin: Client, workspace: Workspace) -> None:
    for path in OF_NOTHING:
        checked(admin.get(ROOT + path), path)


def test_every_page_of_a_busy_one(admin: Client, busy: SimpleNamespace) -> None:
    for path in (*OF_NOTHING, *of_rows(busy)):
        checked(admin.get(ROOT + path), path)


def test_every_page_as_a_viewer_has_no_button_that_changes(viewer: Client, busy: SimpleNamespace) -> None:
    skipped = ("new/", "audit/")
    for path in (*OF_NOTHING, *of_rows(busy)):
        if any(part in path for part in skipped):
            continue
        text = checked(viewer.get(ROOT + path), path)
        posts = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', text)
        dangers = [action for action in posts if action not in {"/accounts/logout/"} and not action.endswith("/delete")]
        assert not dangers, f"{path}: {dangers}"


def test_what_scripts_read_is_json_or_a_file(admin: Client, busy: SimpleNamespace) -> None:
    for path in of_data(busy):
        answer = admin.get(ROOT + path)
        assert answer.status_code == 200, path
        if "/log" in path or "/chart/" in path:
            assert answer["Content-Type"] == "application/json", path


def test_a_failed_run_says_what_to_do(developer: Client, busy: SimpleNamespace) -> None:
    text = developer.get(f"{ROOT}training/{busy.failed.typed_id}/").content.decode()
    assert "The loss became NaN at step 4." in text and "Start again with learning rate 0.004" in text
    assert "Failed: digits" in text and "favicon-bad" in text
    form = developer.get(f"{ROOT}training/new/?clone={busy.failed.typed_id}&learning_rate=0.004").content.decode()
    assert 'name="learning_rate" value="0.004"' in form


def test_a_rejected_export_is_greyed_with_its_reason(developer: Client, busy: SimpleNamespace) -> None:
    text = developer.get(f"{ROOT}exports/{busy.rejected.typed_id}/").content.decode()
    assert "Same answer as the original 96.00%, you asked for at least 98.00%" in text
    assert "Deploy anyway" in text and 'name="override_reason"' in text


@pytest.mark.parametrize("phase", ["starting", "degraded", "stopped", "failed", "updating", "stopping"])
def test_a_deployment_has_a_page_in_every_phase(admin: Client, busy: SimpleNamespace, phase: str) -> None:
    Deployment.objects.filter(pk=busy.deployment.pk).update(
        phase=phase, due_at=timezone.now(), message="Why it is so.", ready_replicas=0
    )
    for tab in ("", "playground/", "logs/"):
        checked(admin.get(f"{ROOT}deployments/{busy.deployment.typed_id}/{tab}"), f"{phase} {tab}")
    checked(admin.get(ROOT), phase)


@pytest.mark.parametrize("phase", ["queued", "checking", "failed", "cancelled"])
def test_uploads_have_a_page_in_every_phase(admin: Client, busy: SimpleNamespace, phase: str) -> None:
    problems = {"problems": [{"row": 3, "what": "Row 3: the image ends early."}], "problem_count": 1}
    why = "Row 3: the image ends early. Leave it out, or upload the file again."
    DatasetVersion.objects.filter(pk=busy.data.pk).update(
        phase=phase, due_at=timezone.now(), prepared=None, message=why, report=problems
    )
    ModelVersion.objects.filter(pk=busy.version.pk).update(
        phase=phase, due_at=timezone.now(), message="It is a pickle.", signature={}
    )
    assert "the image ends early" in checked(admin.get(f"{ROOT}datasets/{busy.data.typed_id}/"), phase)
    checked(admin.get(f"{ROOT}models/{busy.version.typed_id}/"), phase)
    checked(admin.get(ROOT), phase)


def test_names_as_long_as_they_may_be(admin: Client, workspace: Workspace) -> None:
    run = rows.training_run(workspace, "x" * 63)
    assert "x" * 63 in checked(admin.get(f"{ROOT}training/{run.typed_id}/"), "long")


def test_what_a_user_wrote_is_shown_as_text(admin: Client, busy: SimpleNamespace) -> None:
    nasty = '<img src=x onerror="alert(1)">'
    type(busy.failed).objects.filter(pk=busy.failed.pk).update(message=nasty)
    for path in ("", "training/", f"training/{busy.failed.typed_id}/"):
        assert nasty not in admin.get(ROOT + path).content.decode()
