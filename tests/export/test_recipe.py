"""A model of one of our recipes is rebuilt from its weights and exported anew."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from workers.training.recipes import load_recipe

ARGUMENTS = {"channels": 1, "classes": 10, "widths": [8, 16], "stem_stride": 1}


@pytest.fixture
def module(bench):
    """An untrained residual network; its weights and configuration lie in the bench's inputs."""
    torch.manual_seed(7)
    torch.set_num_threads(1)
    module = load_recipe("image_classifier").build(ARGUMENTS).eval()
    save_file(module.state_dict(), bench.inputs / "model.safetensors")
    config = {"recipe": "image_classifier", "arguments": ARGUMENTS}
    (bench.inputs / "config.json").write_text(json.dumps(config))
    return module


def test_the_export_answers_as_the_module_does_for_any_batch(bench, module):
    ended = bench.export()
    assert ended.code == 0, ended.log
    session = onnxruntime.InferenceSession(ended.out / "model.onnx", providers=["CPUExecutionProvider"])
    inputs, labels = bench.held_out
    with torch.inference_mode():
        before = module(torch.from_numpy(inputs)).numpy()
    for batch in (1, 3, 360):
        after = session.run(["logits"], {"image": inputs[:batch]})[0]
        assert np.abs(after - before[:batch]).max() < 1e-4
    figures = ended.figures
    assert ended.certificate["verdict"] == "passed"
    assert figures["accuracy_drop"]["before"] == pytest.approx((before.argmax(1) == labels).mean())
    assert 0 < figures["max_abs_difference"]["after"] < 1e-4
    # The bench's reference graph is another model, and the certificate says so.
    assert "reference.onnx and the weights differ" in ended.certificate["warnings"][0]
    assert ended.certificate["versions"]["torch"].startswith("2.")
    assert {"model.safetensors", "config.json"} <= ended.certificate["checksums"].keys()


def test_the_file_holds_no_paths_of_this_machine(bench, module):
    ended = bench.export()
    content = (ended.out / "model.onnx").read_bytes()
    assert b"site-packages" not in content and b".py" not in content
    model = onnx.load_from_string(content)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_weights_of_another_configuration_are_refused(bench, module):
    bench.rewrite("config.json", lambda old: old | {"arguments": ARGUMENTS | {"widths": [4, 4]}})
    ended = bench.export()
    assert ended.code == 1 and ended.failure["failure"] == "WeightsDiffer"
