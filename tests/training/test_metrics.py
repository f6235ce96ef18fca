"""The points of a run's charts, however often the run is evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.training import metrics as module


def test_frequent_evaluations_put_no_line_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: moment)
    path = tmp_path / "0.jsonl"
    metrics = module.Metrics(path, 100)
    metrics.resume()
    for step in range(1, 31):
        moment += 0.02
        metrics.step(step, loss=1.0, items=10, learning_rate=0.1, grad_norm=1.0, now=step == 1)
        if step % 3 == 0:
            metrics.pause()
            moment += 0.04
            metrics.write(step, held_out_accuracy=0.5)
            metrics.resume()
    points = [point for line in path.read_text().splitlines() if "loss" in (point := json.loads(line))]
    assert len(points) >= 4, "the charts get their points although an evaluation follows every third step"
    assert {point["items_per_second"] for point in points} == {500.0}, "the time of evaluations does not count"
