"""Certified exports without training: rows and blobs, made in the installation that the environment names."""

from __future__ import annotations

import json

from onnx import TensorProto, helper

from apps.accounts.models import Workspace
from apps.core.actor import WINDLASS
from apps.core.wants import create
from apps.exports.models import Export
from apps.registry import blobs
from apps.registry.models import Model, ModelVersion

SIGNATURE = {
    "task": "classification",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


def onnx(operator: str) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "tiny", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def make() -> str:
    """Two exports of one model, which negate and make positive; their ids."""
    workspace = Workspace.objects.get(slug="default")
    model = Model.objects.create(workspace=workspace, name="tiny")
    version = create(ModelVersion(workspace=workspace, model=model, number=1, phase="ready", due_at=None), WINDLASS)
    made = [
        create(
            Export(
                workspace=workspace,
                model_version=version,
                number=number,
                phase="succeeded",
                due_at=None,
                file=blobs.store_bytes(workspace, onnx(operator)),
                signature_file=blobs.store_bytes(workspace, json.dumps(SIGNATURE).encode()),
            ),
            WINDLASS,
        )
        for number, operator in ((1, "Neg"), (2, "Abs"))
    ]
    return " ".join(export.typed_id for export in made)
