"""The certificate's figures are those that somebody else works out from the same files."""

import hashlib

import numpy as np
import onnxruntime
import pytest

from apps.exports.tolerances import FIGURE_BY_NAME


def answers(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


def test_a_users_own_graph_is_certified_as_it_is(bench):
    ended = bench.export(optimisation="none")
    assert ended.code == 0, ended.log
    certificate, figures = ended.certificate, ended.figures
    inputs, labels = bench.held_out
    accuracy = float((bench.logits().argmax(1) == labels).mean())
    assert certificate["verdict"] == "passed" and certificate["held_out_items"] == 360
    assert figures["accuracy_drop"]["before"] == figures["accuracy_drop"]["after"] == pytest.approx(accuracy)
    assert 0.85 < accuracy < 1
    assert figures["agreement"]["after"] == 1 and figures["max_abs_difference"]["after"] == 0
    assert np.abs(answers(ended.out / "model.onnx", inputs) - bench.logits()).max() < 1e-4
    assert "torch" not in certificate["versions"] and "reference graph" in certificate["method"]


def test_the_figures_of_a_quantised_model_are_worked_out_again(bench):
    tolerances = {"max_abs_difference": 100, "agreement": 0, "accuracy_drop": 1, "latency_p50_ms": 1000}
    ended = bench.export(optimisation="dynamic_int8", tolerances=tolerances)
    assert ended.code == 0, ended.log
    certificate, figures = ended.certificate, ended.figures
    inputs, labels = bench.held_out
    before = answers(bench.inputs / "reference.onnx", inputs)
    # Each batch has its own scale of activations, so the comparison goes by the program's batches.
    after = np.concatenate([answers(ended.out / "model.onnx", inputs[i : i + 128]) for i in range(0, 360, 128)])
    changed = before.argmax(1) != after.argmax(1)
    assert figures["max_abs_difference"]["after"] == pytest.approx(float(np.abs(before - after).max()), rel=1e-5)
    assert figures["max_abs_difference"]["after"] > 0
    assert figures["agreement"]["after"] == pytest.approx(1 - changed.mean())
    assert figures["accuracy_drop"]["before"] == pytest.approx((before.argmax(1) == labels).mean())
    assert figures["accuracy_drop"]["after"] == pytest.approx((after.argmax(1) == labels).mean())
    assert figures["size_bytes"]["before"] == (bench.inputs / "reference.onnx").stat().st_size
    assert figures["size_bytes"]["after"] == (ended.out / "model.onnx").stat().st_size
    for row in certificate["by_class"]:
        here = labels == int(row["class"])
        assert row["items"] == here.sum() and row["changed"] == changed[here].sum()
        assert row["accuracy_after"] == pytest.approx((after.argmax(1) == labels)[here].mean())
        assert row["became_right"] - row["became_wrong"] == pytest.approx(
            (row["accuracy_after"] - row["accuracy_before"]) * row["items"]
        )
    assert sum(row["items"] for row in certificate["by_class"]) == 360


def test_the_checksums_are_those_of_the_files(bench):
    ended = bench.export()
    model = (ended.out / "model.onnx").read_bytes()
    reference = (bench.inputs / "reference.onnx").read_bytes()
    assert ended.certificate["checksums"]["model.onnx"] == hashlib.sha256(model).hexdigest()
    assert ended.certificate["checksums"]["reference.onnx"] == hashlib.sha256(reference).hexdigest()


def test_latency_is_measured_on_both_in_turn(bench):
    ended = bench.export(tolerances={"latency_p50_ms": 0.0001})
    certificate, figures = ended.certificate, ended.figures
    assert certificate["latency_batch"] == 1 and certificate["threads"] == 1 and certificate["latency_runs"] >= 20
    for side in ("before", "after"):
        assert 0 < figures["latency_p50_ms"][side] <= figures["latency_p99_ms"][side]
    assert certificate["verdict"] == "rejected" and figures["latency_p50_ms"]["holds"] is False
    assert "latency p50, batch 1 is" in certificate["why"]


def test_every_row_is_one_of_the_table_and_has_its_limit(bench):
    ended = bench.export(tolerances={"agreement": 0.5, "size_bytes": 10**9})
    limits = {name: row["limit"] for name, row in ended.figures.items()}
    assert list(limits) == list(FIGURE_BY_NAME)
    assert limits == {
        "accuracy_drop": 0.01,
        "agreement": 0.5,
        "max_abs_difference": 1e-4,
        "size_bytes": 10**9,
        "latency_p50_ms": None,
        "latency_p99_ms": None,
    }
    assert ended.figures["latency_p50_ms"]["used"] is None and ended.figures["agreement"]["used"] == 0


def test_progress_counts_the_stages_and_carries_the_figures(bench):
    ended = bench.export()
    assert [line["step"] for line in ended.metrics] == list(range(1, 8))
    assert {line["total_steps"] for line in ended.metrics} == {7}
    assert ended.metrics[4]["max_abs_difference"] == 0 and ended.metrics[-1]["agreement"] == 1
    assert all(isinstance(value, int | float) for line in ended.metrics for value in line.values())
