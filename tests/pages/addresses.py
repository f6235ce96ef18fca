"""Every page of a workspace, by what it needs."""

from __future__ import annotations

from types import SimpleNamespace

ROOT = "/w/team/"
OF_NOTHING = (
    "",
    "datasets/",
    "datasets/new/",
    "training/",
    "training/new/",
    "models/",
    "models/new/",
    "exports/",
    "deployments/",
    "placements/",
    "hosts/",
    "events/",
    "health/",
    "settings/keys/",
    "settings/members/",
    "settings/secrets/",
    "settings/audit/",
    "navigation",
)


def of_rows(busy: SimpleNamespace) -> list[str]:
    run, failed, running, cancelled = (row.typed_id for row in (busy.run, busy.failed, busy.running, busy.cancelled))
    data, version = busy.data.typed_id, busy.version.typed_id
    deployment = busy.deployment.typed_id
    return [
        *(f"training/{row}/" for row in (run, failed, running, cancelled)),
        *(f"training/{run}/{tab}/" for tab in ("logs", "configuration", "events")),
        f"training/new/?clone={failed}",
        f"datasets/{data}/",
        f"datasets/{busy.data.dataset.typed_id}/",
        f"datasets/{data}/?split=held_out&offset=5",
        *(f"datasets/{data}/{tab}/" for tab in ("versions", "runs", "events")),
        f"datasets/new/?of={busy.data.dataset.typed_id}",
        f"models/{busy.version.model.typed_id}/",
        f"models/{version}/",
        f"models/{version}/events/",
        *(f"exports/{row.typed_id}/" for row in (busy.export, busy.rejected)),
        *(f"exports/{busy.export.typed_id}/{tab}/" for tab in ("logs", "events")),
        f"deployments/{deployment}/",
        f"deployments/{deployment}/?range=7d",
        *(f"deployments/{deployment}/{tab}/" for tab in ("playground", "logs", "events")),
        f"deployments/{deployment}/playground/?input=tensor",
        f"placements/{busy.placement.typed_id}/",
        *(f"placements/{busy.placement.typed_id}/{tab}/" for tab in ("logs", "events")),
        f"events/?thing={run}&failed=1",
    ]


def of_data(busy: SimpleNamespace) -> list[str]:
    run, deployment = busy.run.typed_id, busy.deployment.typed_id
    return [
        f"training/{run}/log",
        *(f"training/{run}/chart/{name}" for name in ("loss", "accuracy", "gradient")),
        f"exports/{busy.export.typed_id}/log",
        f"exports/{busy.export.typed_id}/file",
        f"models/{busy.version.typed_id}/files/reference.onnx",
        f"deployments/{deployment}/log",
        *(f"deployments/{deployment}/chart/{name}" for name in ("requests", "latency", "errors")),
        f"placements/{busy.placement.typed_id}/log",
        "events/?as=jsonl",
    ]
