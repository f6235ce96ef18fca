import pickle

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save


def small_model(batch="batch", op="MatMul"):
    weights = numpy_helper.from_array(np.ones((4, 3), np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node(op, ["image", "weights"], ["logits"])],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_onnx_gets_its_signature(inspect_model):
    ended = inspect_model(small_model().SerializeToString())
    assert ended.code == 0, ended.log
    assert ended.json("signature.json") == {
        "task": "tensors",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert ended.report["ok"] and ended.report["format"] == "onnx" and ended.report["parameters"] == 12
    assert ended.report["notes"] == []


def test_a_fixed_batch_is_told(inspect_model):
    ended = inspect_model(small_model(batch=1).SerializeToString())
    assert ended.report["notes"] == ['Input "image" has no free batch axis: requests can\'t be batched.']


@pytest.mark.parametrize("inside_a_branch", [False, True])
def test_weights_in_another_file_are_refused(inspect_model, inside_a_branch):
    model = small_model()
    graph = model.graph
    if inside_a_branch:
        branch = helper.make_graph([], "branch", [], [], [numpy_helper.from_array(np.ones(2, np.float32), "inner")])
        model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch))
        graph = model.graph.node[-1].attribute[0].g
    tensor = graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="../../etc/passwd"))
    ended = inspect_model(model.SerializeToString())
    assert ended.failure["failure"] == "ExternalData"
    assert 'in another file, "../../etc/passwd". Save all in one' in ended.failure["message"]
    assert not (ended.out / "signature.json").exists()


def test_an_unknown_operator_is_refused(inspect_model):
    ended = inspect_model(small_model(op="NoSuchOperator").SerializeToString(), filename="m.onnx")
    assert ended.failure["failure"] == "NotAModel" and "m.onnx can't be run" in ended.failure["message"]
    assert "NoSuchOperator" in ended.failure["message"]


def test_safetensors_lists_its_tensors(inspect_model):
    ended = inspect_model(save({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int64)}))
    assert ended.code == 0, ended.log
    report = ended.report
    assert report["tensor_count"] == 2 and report["parameters"] == 10
    assert {"name": "a", "shape": [2, 3], "datatype": "F32"} in report["tensors"]


def test_cut_safetensors_are_refused(inspect_model):
    ended = inspect_model(save({"a": np.zeros(100, np.float32)})[:-8])
    assert ended.failure["failure"] == "NotAModel" and "was cut short" in ended.failure["message"]


def test_a_pickle_is_refused_with_what_to_save_instead(inspect_model):
    ended = inspect_model(pickle.dumps({"weights": [1]}), filename="model.pkl")
    assert ended.failure == {
        "failure": "PickleRefused",
        "message": "`model.pkl` is a Python pickle, and opening one can run code. "
        "Save the weights as safetensors, or the model as ONNX, and upload that.",
    }
    assert ended.report["ok"] is False


@pytest.mark.parametrize(
    ("files", "failure", "message"),
    [
        ({"m/data.pkl": b"x"}, "PickleRefused", "safetensors"),
        ({"m/archive_format": b"pt2", "m/data/weights/0": b"x"}, "NotAModel", "saved torch program"),
        ({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"x"}, "NotAModel", "Keras"),
        ({"sm/saved_model.pb": b"x", "sm/variables/v": b"x"}, "NotAModel", "SavedModel"),
        ({"a.txt": b"x"}, "NotAModel", "is a zip"),
    ],
)
def test_other_archives_are_refused(inspect_model, zipped, files, failure, message):
    ended = inspect_model(zipped(files))
    assert ended.code == 1 and ended.failure["failure"] == failure and message in ended.failure["message"]


@pytest.mark.parametrize("content", [b"", b"hello", bytes(100), b"\x08\x0a", b"a,b\n1,2\n"])
def test_a_file_that_is_no_model_is_refused(inspect_model, content):
    ended = inspect_model(content)
    assert ended.code == 1 and ended.failure["failure"] == "NotAModel"
