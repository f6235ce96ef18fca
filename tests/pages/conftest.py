"""A workspace in the states that its pages have: empty, busy, failed; and browsers signed in by role."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts import services
from apps.accounts.models import Membership, Role, User, Workspace
from apps.clusters.models import Host
from apps.core.actor import WINDLASS
from apps.deployments.models import Deployment, UsageWindow
from apps.deployments.services import create_deployment
from apps.placements.models import LogChunk, Place, Placement
from apps.registry.models import DatasetVersion, ModelVersion
from apps.training.models import MetricPoint, TrainingRun
from apps.training.services import create_training_run
from tests.api import rows
from workers.inspection import prepared
from workers.inspection.prepared import ItemWriter, SplitRule

SIGNATURE = {
    "task": "image_classification",
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 2]}],
    "classes": ["even", "odd"],
    "normalise": {"scale": 0.0625},
}


def figure(name: str, title: str, unit: str, group: str, **more: Any) -> dict[str, Any]:
    usual = {"before": None, "change": 0.0, "note": "", "limit": None, "used": None, "holds": True}
    return {"name": name, "title": title, "unit": unit, "group": group, "direction": "at_most", **usual, **more}


CERTIFICATE: dict[str, Any] = {
    "verdict": "passed",
    "why": "All 2 figures are inside your tolerances.",
    "held_out_items": 40,
    "figures": [
        figure(
            "accuracy_drop", "Accuracy", "share", "same", before=0.98, after=0.975, change=-0.005, limit=0.01, used=0.5
        ),
        figure("agreement", "Same answer as the original", "share", "same", after=0.99, limit=0.98, used=0.5)
        | {"direction": "at_least", "note": "1 of 40 differ"},
        figure("size_bytes", "File size", "bytes", "gained", before=400_000, after=100_000, change=-300_000),
    ],
    "by_class": [
        {"class": "even", "items": 20, "changed": 1, "became_right": 0, "became_wrong": 1},
        {"class": "odd", "items": 20, "changed": 0, "became_right": 0, "became_wrong": 0},
    ],
    "checksums": {"reference.onnx": "ab" * 32},
    "versions": {"torch": "2.13.0"},
    "warnings": ["1 operator stays in fp32."],
    "latency_runs": 100,
}


@pytest.fixture(autouse=True)
def quiet(settings: Any, tmp_path: Path) -> None:
    settings.WINDLASS_HINTS = False
    options = {**settings.STORAGES["default"]["OPTIONS"], "location": str(tmp_path / "storage")}
    settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], "OPTIONS": options}}


def make_workspace(slug: str) -> Workspace:
    user = User.objects.create_user(f"admin@{slug}.example.org", first_name=f"Admin of {slug}")
    return services.create_workspace(WINDLASS, slug=slug, name=slug.title(), admin=user)


@pytest.fixture
def workspace(db: None) -> Workspace:
    return make_workspace("team")


@pytest.fixture
def browser(workspace: Workspace) -> Callable[..., Client]:
    def signed_in(role: str = Role.ADMIN, of: Workspace | None = None) -> Client:
        place = of or workspace
        user = User.objects.create_user(f"{role}-{User.objects.count()}@example.org")
        Membership.objects.create(user=user, workspace=place, role=role)
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return signed_in


@pytest.fixture
def admin(browser: Callable[..., Client]) -> Client:
    return browser(Role.ADMIN)


@pytest.fixture
def developer(browser: Callable[..., Client]) -> Client:
    return browser(Role.DEVELOPER)


@pytest.fixture
def viewer(browser: Callable[..., Client]) -> Client:
    return browser(Role.VIEWER)


def images(workspace: Workspace, tree: Path) -> DatasetVersion:
    """40 images of 8 x 8 in 2 classes, really prepared."""
    writer = ItemWriter(tree, (1, 8, 8), "u1")
    for index in range(40):
        writer.add(np.full((1, 8, 8), index % 17, np.uint8), "even" if index % 2 == 0 else "odd")
    prepared.finish(writer, "image", SplitRule(0.25, 7), {"value_range": [0, 16]})
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(tree, arcname=".")
    version = rows.dataset_version(workspace)
    report = {
        **rows.REPORT,
        "class_counts": {"even": 20, "odd": 20},
        "message": "40 images in 2 classes. All readable.",
    }
    report["checks"] = [{"ok": True, "title": "All images can be read", "found": "40 of 40"}]
    blob = rows.blob(workspace, content.getvalue())
    return rows.ended(version, "ready", prepared=blob, report=report, items=40)  # type: ignore[no-any-return]


def placed(owner: Any, slot: str = "node-0", phase: str = "succeeded", text: str = "") -> Placement:
    place = Place.objects.first() or Place.objects.create(host=Host.objects.first())
    content = (text or "2026-11-25T01:02:03.000000Z It went well.\n").encode()
    row = Placement.objects.create(
        workspace_id=owner.workspace_id,
        owner_kind=owner.kind,
        owner_id=owner.pk,
        slot=slot,
        place=place,
        workload={"argv": ["python", "-m", "x"], "resources": {"cpus": 1, "memory_bytes": 1024}, "replicas": 1},
        log_offsets={"0": len(content)},
        observed={
            "state": "ready",
            "ranks": [
                {"ordinal": 0, "state": "ready", "address": "127.0.0.1", "port": 1, "restarts": 0, "message": ""}
            ],
        },
        ready_ordinals=[0],
    )
    LogChunk.objects.create(placement=row, stream="0", offset=0, data=content)
    return row if phase == "running" else rows.ended(row, phase)  # type: ignore[no-any-return]


def host() -> Host:
    now = timezone.now()
    found, _made = Host.objects.get_or_create(
        name="vm",
        defaults={
            "cpus": 2,
            "memory_bytes": 8 * 1024**3,
            "heartbeat_at": now,
            "swept_at": now,
            "isolation": "In a cage.",
        },
    )
    return found


def trained(workspace: Workspace, version: DatasetVersion, phase: str = "succeeded", **fields: Any) -> TrainingRun:
    model = rows.model_named(workspace, WINDLASS, "digits")
    run = create_training_run(workspace, WINDLASS, model=model, recipe="image_classifier", dataset_version=version)
    points = [
        MetricPoint(run=run, name=name, step=step, value=1 / (step + 1), at=timezone.now())
        for name in ("loss", "grad_norm")
        for step in range(5)
    ]
    MetricPoint.objects.bulk_create(points)
    usual = {"metrics": {"loss": 0.2, "held_out_accuracy": 0.98, "items_per_second": 900}, "step": 4, "total_steps": 8}
    usual |= {"started_at": timezone.now() - timedelta(seconds=30), "attempt": 1}
    placed(run, phase="succeeded" if phase != "training" else "running")
    if phase == "training":
        TrainingRun.objects.filter(pk=run.pk).update(
            phase=phase, progress=0.5, message="Step 4 of 8.", **{**usual, **fields}
        )
        run.refresh_from_db()
        return run
    return rows.ended(run, phase, **{**usual, **fields})  # type: ignore[no-any-return]


def serving(workspace: Workspace, export: Any, name: str = "digits", phase: str = "serving") -> Deployment:
    row = create_deployment(workspace, WINDLASS, name=name, export=export)
    placed(row, slot="r1/local", phase="running")
    Deployment.objects.filter(pk=row.pk).update(phase=phase, serving_revision=1, ready_replicas=1, message="1 ready.")
    UsageWindow.objects.create(
        deployment=row,
        revision=1,
        starts_at=timezone.now() - timedelta(minutes=3),
        seconds=10,
        requests=50,
        errors=1,
        latency_ms={"p50": 1.0, "p95": 2.0, "p99": 3.0},
    )
    row.refresh_from_db()
    return row


@pytest.fixture
def busy(workspace: Workspace, tmp_path: Path) -> SimpleNamespace:
    """One of everything, with something running, something that failed and something rejected."""
    host()
    data = images(workspace, tmp_path / "tree")
    version = rows.model_version(workspace)
    ModelVersion.objects.filter(pk=version.pk).update(signature=SIGNATURE, metrics={"held_out_accuracy": 0.98})
    run = trained(workspace, data, result=version)
    export = rows.create_export(workspace, WINDLASS, model_version=version, dataset_version=data)
    certified = {"certificate": CERTIFICATE, "signature": SIGNATURE, "file": rows.blob(workspace, b"onnx")}
    rows.ended(export, "succeeded", message="All 2 figures are inside your tolerances.", **certified)
    worse = rows.create_export(workspace, WINDLASS, model_version=version, optimisation="dynamic_int8")
    broken = {
        **CERTIFICATE,
        "verdict": "rejected",
        "figures": [dict(CERTIFICATE["figures"][1], holds=False, used=2.0, after=0.96)],
    }
    words = "Rejected: 96.0% of answers stayed the same, you asked for 98.0%. Allow agreement 0.96."
    rows.ended(worse, "rejected", message=words, **{**certified, "certificate": broken})
    nan = "The loss became NaN at step 4. The learning rate is 1,000 times the recipe's. Start again with 0.004."
    failed = trained(workspace, data, "failed", reason="Diverged", message=nan, hyperparameters={"learning_rate": 4.0})
    return SimpleNamespace(
        data=data,
        version=version,
        run=run,
        export=export,
        rejected=worse,
        failed=failed,
        running=trained(workspace, data, "training"),
        cancelled=trained(workspace, data, "cancelled", message="Cancelled."),
        deployment=serving(workspace, export),
        placement=Placement.objects.filter(owner_id=run.pk).get(),
    )
