"""A process of a run is killed: torchrun starts all again, and the run ends as if nothing had been."""

from __future__ import annotations

import os
import signal

import torch
from safetensors.torch import load_file

from tests.training.conftest import Run


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_weights(run: Run, trained: Run):
    program = run.start(2, recipe="image_classifier", checkpoint_every_steps=20)
    run.wait_for(lambda: run.checkpoints and run.metrics[-1]["step"] >= 40)
    os.kill(run.ranks()[1], signal.SIGKILL)
    assert program.wait(100) == 0, run.log
    assert "Going on from the checkpoint of step" in run.log
    assert run.checkpoints == ["step-440"]
    weights, expected = (load_file(each.out / "model.safetensors") for each in (run, trained))
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-3, rtol=1e-3)
