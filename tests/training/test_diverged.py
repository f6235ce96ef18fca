"""A loss that is no number: every process agrees, the run ends at once and says what to do."""

from __future__ import annotations

import pytest

from apps.training.hyperparameters import complete
from tests.training.conftest import Run
from workers.training.divergence import diverged


def test_a_diverged_run_fails_once_and_keeps_its_checkpoint(run: Run):
    settings = {"optimiser": "sgd", "learning_rate": 1e9, "gradient_clip": None, "warmup_steps": 0}
    program = run.start(2, recipe="image_classifier", checkpoint_every_steps=1, **settings)
    assert program.wait(60) == 1, run.log
    step = int(run.checkpoints[0].removeprefix("step-"))
    assert run.failure["failure"] == "Diverged"
    assert f"at step {step + 1}. " in run.failure["message"]
    assert f"Resume from step {step} with 0.004, or change anything in a clone." in run.failure["message"]
    assert run.log.count("Ready after") == 1


@pytest.mark.parametrize(
    ("learning_rate", "loss", "checkpoint", "message"),
    [
        (
            0.8,
            float("nan"),
            400,
            "The loss became NaN at step 412. The largest gradient norm before was 8,914; the learning rate is 200 "
            "times the recipe's. Resume from step 400 with 0.004, or change anything in a clone.",
        ),
        (
            0.004,
            float("inf"),
            0,
            "The loss became infinite at step 412. The largest gradient norm before was 8,914; the learning rate "
            "is 0.004. Start again with 0.0004, or change anything in a clone.",
        ),
        (
            0.004,
            1.5,
            0,
            "The gradient became infinite at step 412. The largest gradient norm before was 8,914; the learning rate "
            "is 0.004. Start again with 0.0004, or change anything in a clone.",
        ),
    ],
)
def test_the_message_compares_with_the_recipe(learning_rate: float, loss: float, checkpoint: int, message: str):
    hyperparameters = complete({"recipe": "image_classifier", "learning_rate": learning_rate})
    failure = diverged(412, loss, 8914.2, hyperparameters, checkpoint)
    assert (failure.code, failure.message) == ("Diverged", message)
