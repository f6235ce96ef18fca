"""SIGTERM: a last checkpoint, an end within seconds that says so, and nothing left behind."""

from __future__ import annotations

import signal
import time

from tests.training.conftest import Run


def test_a_stopped_run_leaves_its_last_checkpoint(run: Run):
    program = run.start(2, recipe="image_classifier", epochs=5000, checkpoint_every_steps=10_000)
    run.wait_for(lambda: run.metrics and run.metrics[-1]["step"] >= 5)
    program.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert program.wait(30) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 15
    assert len(run.checkpoints) == 1
    step = int(run.checkpoints[0].removeprefix("step-"))
    assert f"Stopped at step {step:,} of 110,000; its checkpoint is written." in run.log
    assert not (run.out / "failure.json").exists()
    assert not (run.out / "metrics.json").exists()
    assert run.ranks() == []


def test_a_stop_before_the_first_step_ends_too(run: Run):
    program = run.start(2, recipe="image_classifier")
    run.wait_for(run.ranks)
    program.send_signal(signal.SIGTERM)
    assert program.wait(30) == 128 + signal.SIGTERM
    assert run.ranks() == []
