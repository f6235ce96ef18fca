"""What can't be trained is said at once, by the program itself, before torch is loaded."""

from __future__ import annotations

import json

import numpy as np

from tests.training.conftest import Run

PROGRAM = ("-m", "workers.training.data_parallel")


def test_a_batch_that_does_not_divide(run: Run):
    program = run.start_plain(*PROGRAM, world_size=4, recipe="image_classifier", batch_size=510)
    assert program.wait(20) == 1
    assert run.failure == {
        "failure": "BatchSize",
        "message": "510 does not divide by 4 processes. Use 508 or 512.",
    }
    assert "BatchSize: 510 does not divide" in run.log


def test_a_second_start_after_a_told_failure_ends_at_once(run: Run):
    run.out.mkdir()
    (run.out / "failure.json").write_text(json.dumps({"failure": "Diverged", "message": "It diverged."}))
    assert run.start_plain(*PROGRAM, recipe="image_classifier").wait(20) == 1
    assert run.failure["failure"] == "Diverged"
    assert run.log == ""


def test_a_dataset_of_another_kind(run: Run):
    assert run.start_plain(*PROGRAM, recipe="table_classifier").wait(20) == 1
    assert run.failure["failure"] == "Dataset"
    assert "one is of kind image" in run.failure["message"]


def test_a_dataset_with_pickled_arrays_is_not_opened(run: Run, tmp_path):
    for path in run.data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    np.save(tmp_path / "features.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    run.data = tmp_path
    assert run.start_plain(*PROGRAM, recipe="image_classifier").wait(20) == 1
    assert run.failure["failure"] == "Dataset"
    assert "Upload it again." in run.failure["message"]
