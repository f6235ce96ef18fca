"""A deployment from a row to answers, with the real server behind it."""

from __future__ import annotations

import json
from uuid import UUID

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from apps.accounts.models import ApiKey, Workspace
from apps.core.actor import WINDLASS
from apps.core.models import Event
from apps.core.wants import create, want
from apps.deployments.models import Deployment, Revision
from apps.exports.models import Export
from apps.placements.models import Placement, Reservation
from apps.placements.observation import Observed
from apps.registry import blobs
from apps.registry.models import Model, ModelVersion
from tests.spine.conftest import World

KEY = "wl_test_key"
SIGNATURE = {
    "task": "classification",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


def tiny_onnx() -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "tiny", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.fixture
def deployment(world: World, workspace: Workspace) -> Deployment:
    import hashlib

    assert onnx.load_from_string(tiny_onnx()).graph.name == "tiny"
    model = Model.objects.create(workspace=workspace, name="tiny")
    version = create(ModelVersion(workspace=workspace, model=model, number=1, phase="ready", due_at=None), WINDLASS)
    export = Export(
        workspace=workspace,
        model_version=version,
        number=1,
        phase="succeeded",
        due_at=None,
        file=blobs.store_bytes(workspace, tiny_onnx()),
        signature_file=blobs.store_bytes(workspace, json.dumps(SIGNATURE).encode()),
    )
    create(export, WINDLASS)
    ApiKey.objects.create(workspace=workspace, name="k", hint="wl_t", sha256=hashlib.sha256(KEY.encode()).hexdigest())
    row = create(Deployment(workspace=workspace, name="tiny", memory_bytes=300 * 2**20), WINDLASS)
    for number in (1, 2):
        Revision.objects.create(deployment=row, number=number, export=export)
    return row


def endpoints(row: Deployment) -> list[str]:
    """Where the replicas are that the gateway may send to."""
    row.refresh_from_db()
    found = []
    for item in row.listing:
        placement = Placement.objects.get(pk=UUID(item["placement"]))
        ranks = Observed.from_json(placement.observed).ranks
        found += [f"http://{r.address}:{r.port}" for r in ranks if r.ordinal in item["ordinals"] and r.state == "ready"]
    return found


def predict(address: str, key: str = KEY) -> httpx.Response:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, -2]}]}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{address}/v2/models/tiny/infer", json=body, headers=headers, timeout=5)


def test_it_serves_moves_scales_stops_and_goes(world: World, deployment: Deployment) -> None:
    world.phase(deployment, "serving")
    (address,) = endpoints(deployment)
    answer = predict(address)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [-1, 2]
    assert predict(address, "wl_other").status_code == 401

    want(deployment, WINDLASS, spec={"replicas": 3})
    world.until(lambda: len(endpoints(deployment)) == 3)
    world.until(lambda: (deployment.refresh_from_db(), deployment.ready_replicas)[1] == 3)
    assert Reservation.objects.get().cpus == pytest.approx(0.75)

    want(deployment, WINDLASS, spec={"replicas": 1})
    world.until(lambda: len(endpoints(deployment)) == 1 and Reservation.objects.get().cpus == pytest.approx(0.25))
    assert endpoints(deployment) == [address], "the highest ordinals go first"

    want(deployment, WINDLASS, spec={"revision": 2})
    world.until(lambda: (deployment.refresh_from_db(), deployment.serving_revision)[1] == 2)
    world.until(lambda: Reservation.objects.count() == 1)
    assert predict(endpoints(deployment)[0]).headers["x-windlass-revision"] == "2"
    want(deployment, WINDLASS, spec={"revision": 1})
    world.until(lambda: (deployment.refresh_from_db(), deployment.serving_revision)[1] == 1)

    want(deployment, WINDLASS, goal="stop")
    world.phase(deployment, "stopped")
    assert Reservation.objects.count() == 0
    want(deployment, WINDLASS, goal="run")
    world.phase(deployment, "serving")
    assert predict(endpoints(deployment)[0]).status_code == 200

    want(deployment, WINDLASS, goal="delete")
    world.phase(deployment, "deleted")
    assert Reservation.objects.count() == 0
    from workers import targets

    assert list(targets.this_host().list_owned(None)) == []


def test_the_old_revision_answers_until_the_new_one_is_ready(world: World, deployment: Deployment) -> None:
    """A revision whose model can't be loaded never gets traffic, and the row says why."""
    world.phase(deployment, "serving")
    good = Export.objects.get()
    broken = Export(
        workspace=deployment.workspace,
        model_version=good.model_version,
        number=2,
        phase="succeeded",
        due_at=None,
        file=blobs.store_bytes(deployment.workspace, b"no model"),
        signature_file=good.signature_file,
    )
    create(broken, WINDLASS)
    Revision.objects.create(deployment=deployment, number=3, export=broken)
    want(deployment, WINDLASS, spec={"revision": 3})

    def says_why() -> bool:
        deployment.refresh_from_db()
        return deployment.phase == "updating" and "Replica 0" in deployment.message

    try:
        world.until(says_why)
    except AssertionError as error:
        raise AssertionError(f"{deployment.message}; {list(Placement.objects.values('phase', 'observed'))}") from error
    assert deployment.serving_revision == 1
    assert predict(endpoints(deployment)[0]).status_code == 200
    want(deployment, WINDLASS, spec={"revision": 1})
    world.phase(deployment, "serving")
    assert deployment.serving_revision == 1


def test_replicas_that_find_no_room_keep_no_request_from_those_that_did(world: World, deployment: Deployment) -> None:
    world.phase(deployment, "serving")
    want(deployment, WINDLASS, spec={"replicas": 90})
    world.until(lambda: (deployment.refresh_from_db(), "no room" in deployment.message)[1])
    want(deployment, WINDLASS, goal="stop")
    world.phase(deployment, "stopping")
    want(deployment, WINDLASS, goal="run")
    world.until(lambda: len(endpoints(deployment)) == 1)
    world.until(lambda: (deployment.refresh_from_db(), "no room" in deployment.message)[1])
    assert predict(endpoints(deployment)[0]).status_code == 200


def test_larger_replicas_take_over_from_smaller_ones_that_answer(world: World, deployment: Deployment) -> None:
    """Nothing is degraded meanwhile: what was there answers until the new ones are ready."""
    world.phase(deployment, "serving")
    (before,) = endpoints(deployment)
    want(deployment, WINDLASS, spec={"memory_bytes": 320 * 2**20})
    world.until(lambda: endpoints(deployment) not in ([], [before]))
    world.phase(deployment, "serving")
    phases = set(Event.objects.filter(kind="deployment").values_list("new", flat=True))
    assert phases == {"starting", "serving", "updating"}
    assert predict(endpoints(deployment)[0]).status_code == 200
    world.until(lambda: Reservation.objects.count() == 1)
