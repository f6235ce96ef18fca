import numpy as np
import pytest

from workers.export import certify, measure, verdict
from workers.export.held_out import HeldOut
from workers.inspection.program import Refused

FEATURES = np.eye(3, dtype=np.float32).repeat(100, 0)
HELD_OUT = HeldOut(FEATURES, np.arange(300), np.repeat([0, 1, 2], 100), ("a", "b", "c"), {})
LATENCY = (measure.Latency(1, 2), measure.Latency(1, 2))


def nan_for_class_b(batch):
    return np.where(batch[:, 1:2] == 1, np.nan, batch)


def test_answers_that_are_no_numbers_are_outside_of_every_tolerance():
    answers = measure.answers(lambda batch: batch, nan_for_class_b, HELD_OUT)
    assert answers.not_finite == 100 and answers.max_abs_difference == 0
    found = certify.values(answers, HELD_OUT, (1, 1), LATENCY)
    rows = {row["name"]: row for row in certify.figures(found, {"max_abs_difference": 100, "agreement": 0.5})}
    assert rows["max_abs_difference"]["holds"] is False and rows["max_abs_difference"]["after"] is None
    assert rows["agreement"]["after"] == pytest.approx(2 / 3) and rows["accuracy_drop"]["after"] == pytest.approx(2 / 3)
    why = verdict.why(list(rows.values()), certify.by_class(answers, HELD_OUT), 300, "dynamic_int8")
    assert why.startswith('Rejected: 100 answers are not numbers. 100 of 300 changed, 100 of them in "b".')


def test_a_trained_model_that_answers_nan_is_refused():
    with pytest.raises(Refused, match="answers NaN or infinity on held-out data"):
        measure.answers(nan_for_class_b, lambda batch: batch, HELD_OUT)


def test_outputs_without_classes_have_differences_only():
    answers = measure.answers(lambda b: b[:, :1], lambda b: b[:, :1] + 0.5, HELD_OUT)
    found = certify.values(answers, HELD_OUT, (1, 1), LATENCY)
    assert "agreement" not in found and found["max_abs_difference"].after == 0.5
    assert certify.by_class(answers, HELD_OUT) == []


def test_inputs_are_scaled_shifted_and_divided_by_channel():
    images = np.full((1, 2, 1, 1), 8, np.uint8)
    normalise = {"scale": 0.5, "mean": [1, 2], "std": [2, 4]}
    held_out = HeldOut(images, np.array([0]), np.array([0]), ("a",), normalise)
    assert held_out.first().ravel().tolist() == [1.5, 0.5] and held_out.first().dtype == np.float32
