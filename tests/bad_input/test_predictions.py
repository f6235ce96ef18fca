"""Calls that can't be answered, asked of a replica that really runs; and keys that are not, or no more, good for it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.utils import timezone
from onnx import TensorProto, helper

from apps.accounts import services
from apps.accounts.models import ApiKey, Role
from apps.core import ids
from apps.core.actor import WINDLASS
from apps.core.wants import create
from apps.deployments.models import Deployment
from apps.exports.models import Export
from apps.registry import blobs
from apps.registry.models import Model, ModelVersion
from tests.api.conftest import Caller, make_workspace
from tests.bad_input.conftest import MIB, World
from tests.spine.test_deployment import endpoints

IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 1, 2, 2]}
GOOD = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [1, 2, 3, 4]}


def onnx() -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 2, 2]) for name in ("image", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["image"], ["y"])], "tiny", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


class Served:
    """A deployment, its replica's address, and a key that may ask it."""

    def __init__(self, world: World) -> None:
        workspace = world.workspace
        model = Model.objects.create(workspace=workspace, name="served")
        version = create(ModelVersion(workspace=workspace, model=model, number=1, phase="ready", due_at=None), WINDLASS)
        signature = json.dumps({"task": "", "inputs": [IMAGE], "outputs": [{**IMAGE, "name": "y"}]}).encode()
        self.export = create(self._export(world, version, "succeeded", signature), WINDLASS)
        self.rejected = create(self._export(world, version, "rejected", signature), WINDLASS)
        body = {"name": "served", "export": self.export.typed_id, "memory_bytes": 300 * MIB}
        answer = world.api.post("deployments", body)
        assert answer.status_code == 201, answer.json()
        self.row = Deployment.objects.get(pk=ids.parse(Deployment.prefix, answer.json()["id"]))
        self.key = self.new_key(world)
        world.phase(self.row, "serving")
        (self.address,) = endpoints(self.row)

    @staticmethod
    def _export(world: World, version: ModelVersion, phase: str, signature: bytes) -> Export:
        return Export(
            workspace=world.workspace,
            model_version=version,
            number=Export.objects.count() + 1,
            phase=phase,
            message="Rejected: 98.2% of answers stayed the same, you asked for 99.0%." if phase == "rejected" else "",
            due_at=None,
            file=blobs.store_bytes(world.workspace, onnx()),
            signature_file=blobs.store_bytes(world.workspace, signature),
        )

    @staticmethod
    def new_key(world: World) -> services.NewKey:
        return services.create_api_key(world.workspace, WINDLASS, name="predict")

    def ask(self, body: Any, key: str = "") -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key or self.key.secret}"}
        return httpx.post(f"{self.address}/v2/models/served/infer", content=content, headers=headers, timeout=5)


@pytest.fixture(scope="module")
def served(world: World) -> Served:
    return Served(world)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shape": [1, 2, 2]},
            'Input "image" has shape [1, 2, 2]; the model wants [batch, 1, 2, 2]. Add the channel axis: [1, 1, 2, 2].',
        ),
        ({"shape": [1, 1, 2, 3]}, 'Input "image" has shape [1, 1, 2, 3]; the model wants [batch, 1, 2, 2]. '),
        ({"shape": [-1, 1, 2, 2]}, 'Input "image" has a shape that is no list of whole numbers; '),
        ({"datatype": "INT64"}, 'Input "image" has datatype INT64; the model wants FP32. Send "datatype": "FP32".'),
        ({"data": ["1", 2, 3, 4]}, 'Input "image" has text at position 0; FP32 is numbers.'),
        ({"data": [1, 2, 3]}, 'Input "image" has 3 values; shape [1, 1, 2, 2] holds 4. Make data and shape agree.'),
        ({"data": [1e300, 2, 3, 4]}, 'Input "image" holds 1e+300, which FP32 has no room for.'),
        ({"name": "picture"}, 'The model has no input "picture". It wants "image" (FP32 [batch, 1, 2, 2]).'),
    ],
)
def test_what_does_not_fit_the_model_is_explained(served: Served, changes: dict[str, Any], message: str) -> None:
    answer = served.ask({"inputs": [{**GOOD, **changes}]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)
    assert served.ask({"inputs": [GOOD]}).json()["outputs"][0]["data"] == [-1, -2, -3, -4]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is empty. Send the inputs as JSON."),
        (b"{", "The body is not JSON: "),
        (b'{"inputs": []}', 'The body has no "inputs". Send {"inputs":[{"name":"image"'),
        (b"[" * 100_000, "The body is not JSON: "),
    ],
)
def test_a_body_that_is_no_request_is_explained(served: Served, body: bytes, message: str) -> None:
    answer = served.ask(body)
    assert (answer.status_code, answer.json()["error"][: len(message)]) == (400, message)
    assert served.ask({"inputs": [GOOD]}).status_code == 200


def refused(served: Served, key: str) -> str:
    answer = served.ask({"inputs": [GOOD]}, key)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    return str(answer.json()["error"])


def test_an_unknown_key(world: World, served: Served) -> None:
    assert refused(served, "wl_unknown").startswith("This key is not known to this deployment (team/served). ")
    answer = Caller(world.workspace, "wl_unknown").get("deployments")
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
    detail = "This key is not known here. Check that all of it was copied, or make a new one."
    assert answer.json()["detail"] == detail


def test_a_key_of_another_workspace(world: World, served: Served) -> None:
    other = make_workspace("other")
    foreign = services.create_api_key(other, WINDLASS, name="foreign", role=Role.ADMIN).secret
    assert "or belongs to another workspace, make a new one." in refused(served, foreign)
    for path in ("deployments", f"deployments/{served.row.typed_id}"):
        answer = Caller(world.workspace, foreign).get(path)
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is no workspace “team” that you are a member of."
    assert Caller(other, foreign).get(f"deployments/{served.row.typed_id}").status_code == 404


def test_a_key_that_ended_and_one_that_was_revoked(world: World, served: Served) -> None:
    ended, revoked = served.new_key(world), served.new_key(world)
    world.until(lambda: served.ask({"inputs": [GOOD]}, revoked.secret).status_code == 200)
    at = timezone.now() - timedelta(days=1)
    ApiKey.objects.filter(pk=ended.key.pk).update(expires_at=at)
    services.revoke_api_key(revoked.key, WINDLASS)
    world.until(lambda: served.ask({"inputs": [GOOD]}, revoked.secret).status_code == 401)
    day = f"{at.day} {at:%B %Y}"
    assert refused(served, ended.secret) == f"This key ended on {day}. Make a new one; old and new can overlap."
    for key, words in ((ended.secret, f"This key ended on {day}."), (revoked.secret, "This key was revoked on ")):
        answer = Caller(world.workspace, key).get("deployments")
        assert answer.status_code == 401 and answer.json()["detail"].startswith(words)
    assert served.ask({"inputs": [GOOD]}).status_code == 200


def test_a_rejected_export_is_not_served_without_a_reason(world: World, served: Served) -> None:
    refused = world.api.post(f"deployments/{served.row.typed_id}/revisions", {"export": served.rejected.typed_id})
    assert (refused.status_code, refused.json()["code"]) == (409, "ExportRejected")
    assert "Rejected: 98.2% of answers stayed the same" in refused.json()["detail"]
    assert refused.json()["errors"][0]["field"] == "override_reason"
    assert served.ask({"inputs": [GOOD]}).status_code == 200


def test_what_serves_is_not_deleted_below_it(world: World, served: Served) -> None:
    export, version = served.export, served.export.model_version
    answer = world.api.delete(f"exports/{export.typed_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "InUse")
    assert answer.json()["detail"] == "The deployment “served” has it as r1. Delete the deployment first."
    answer = world.api.delete(f"model-versions/{version.typed_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "InUse")
    assert answer.json()["detail"] == f"{export.label} was made of it. Delete that export first."


def test_nothing_is_left_of_it(world: World, served: Served) -> None:
    world.api.delete(f"deployments/{served.row.typed_id}")
    world.phase(served.row, "deleted")
    world.nothing_left()
    world.goes_on()
