"""What to say when a run's loss or gradient is no number any more."""

from __future__ import annotations

import math
from typing import Any

from apps.training.hyperparameters import parameters
from workers.training.failure import Failure


def diverged(
    step: int, loss: float, highest_grad_norm: float, hyperparameters: dict[str, Any], checkpoint_step: int
) -> Failure:
    """`checkpoint_step`: that of the last checkpoint, 0 if there is none."""
    what = "gradient" if math.isfinite(loss) else "loss"
    value = "NaN" if math.isnan(loss) else "infinite"
    rate = float(hyperparameters["learning_rate"])
    default = next(
        float(item.default or 0) for item in parameters(hyperparameters["recipe"]) if item.name == "learning_rate"
    )
    ratio = rate / default
    better = default if ratio > 1 else float(f"{rate / 10:.1g}")
    compared = f"{float(f'{ratio:.3g}'):,g} times the recipe's" if ratio >= 1.5 else f"{rate:g}"
    norm = f"The largest gradient norm before was {highest_grad_norm:,.4g}; the" if highest_grad_norm else "The"
    way_on = (
        f"Resume from step {checkpoint_step} with {better:g}, or change anything in a clone."
        if checkpoint_step
        else f"Start again with {better:g}, or change anything in a clone."
    )
    return Failure(
        "Diverged", f"The {what} became {value} at step {step}. {norm} learning rate is {compared}. {way_on}"
    )
