"""What can't be exported or certified ends the program with its reason, and leaves no certificate."""

import numpy as np
import pytest


def refused(bench, failure, message, **hyperparameters):
    ended = bench.export(**hyperparameters)
    assert ended.code == 1, ended.log
    assert ended.failure["failure"] == failure and message in ended.failure["message"]
    assert not (ended.out / "certificate.json").exists()


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"optimisation": "int2"}, 'The optimisation "int2" is not known. Use none or dynamic_int8.'),
        ({"tolerances": {"speed": 1}}, 'The certificate has no figure "speed". Set one of accuracy_drop, agreement'),
        ({"tolerances": {"agreement": 99}}, "agreement must be a number of at least 0 and at most 1, and is 99."),
        ({"tolerances": {"agreement": "high"}}, "and is 'high'. 0.99 would work."),
        ({"tolerances": [1]}, "tolerances"),
    ],
)
def test_impossible_hyperparameters(bench, hyperparameters, message):
    refused(bench, "BadHyperparameters", message, **hyperparameters)


def test_a_dataset_of_other_shape(bench):
    np.save(bench.inputs / "data" / "features.npy", np.zeros((1797, 1, 9, 9), np.uint8))
    refused(bench, "ShapesDiffer", "items have shape [1, 9, 9]; the model wants [1, 8, 8]")


def test_a_dataset_of_other_classes(bench):
    bench.rewrite("data/dataset.json", lambda old: old | {"classes": old["classes"] + ["10", "11"]})
    refused(bench, "ClassCount", "The dataset has 12 classes, but the model ends in 10.")


def test_no_dataset_at_all(bench):
    (bench.inputs / "data" / "dataset.json").unlink()
    refused(bench, "NoDataset", "Choose the dataset that the model was trained on")


def test_no_graph_at_all(bench):
    (bench.inputs / "reference.onnx").unlink()
    refused(bench, "NoReference", "has no ONNX graph to start from")


def test_a_dataset_of_text(bench):
    bench.rewrite("data/dataset.json", lambda old: old | {"kind": "text"})
    refused(bench, "TextNotSupported", "The dataset holds text")


def test_a_dataset_without_held_out_items(bench):
    np.save(bench.inputs / "data" / "split.npy", np.zeros(1797, np.uint8))
    refused(bench, "NothingHeldOut", "no held-out items")


@pytest.mark.parametrize("optimisation", ["none", "dynamic_int8"])
def test_a_damaged_graph(bench, optimisation):
    (bench.inputs / "reference.onnx").write_bytes(b"\x08\x0athis is no graph")
    refused(bench, "BadGraph", "does not load", optimisation=optimisation)


def test_a_signature_of_another_model(bench):
    def renamed(old):
        return old | {"outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]}

    bench.rewrite("signature.json", renamed)
    refused(bench, "SignatureDiffers", "signature.json promises [('scores', 'FP32', [-1, 10])]")


def test_a_signature_that_is_none(bench):
    (bench.inputs / "signature.json").write_text("[]")
    refused(bench, "BadSignature", "signature.json can't be read")


def test_a_model_with_a_fixed_batch(bench):
    bench.rewrite("signature.json", lambda old: old | {"inputs": [old["inputs"][0] | {"shape": [1, 1, 8, 8]}]})
    refused(bench, "FixedBatch", "inputs of shape [1, 1, 8, 8] only")


def test_a_recipe_that_nobody_knows(bench):
    (bench.inputs / "config.json").write_text('{"recipe": "alchemy", "arguments": {}}')
    (bench.inputs / "model.safetensors").write_bytes(b"")
    refused(bench, "UnknownRecipe", "names the recipe 'alchemy'")
