"""The training loop of every recipe: steps, evaluations, checkpoints, the wish to stop, and divergence."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from workers.training.checkpoints import Checkpoints
from workers.training.dataset import Dataset
from workers.training.divergence import diverged
from workers.training.metrics import Metrics
from workers.training.optimisation import Order, learning_rate, make_optimiser, step_seed
from workers.training.processes import Processes, data_parallel
from workers.training.recipes import load_recipe
from workers.training.settings import Settings

EVALUATION_BATCH = 512


class Stopped(Exception):
    """The run was asked to stop, and its checkpoint is written."""


class Training:
    """One run on one process. `step` steps are done; `figures` are those of the last evaluation."""

    def __init__(self, settings: Settings, dataset: Dataset, processes: Processes) -> None:
        self.processes = processes
        self.hyperparameters = settings.hyperparameters
        recipe_name = self.hyperparameters["recipe"]
        self.recipe = load_recipe(recipe_name)
        self.dataset = dataset
        self.order = Order(
            self.dataset.train,
            self.hyperparameters["batch_size"],
            self.hyperparameters["seed"],
            processes.rank,
            processes.world_size,
        )
        self.total_steps: int = (
            self.hyperparameters["steps"] or self.hyperparameters["epochs"] * self.order.steps_per_epoch
        )
        self.config = {"recipe": recipe_name, "arguments": self.recipe.arguments(self.dataset)}
        torch.manual_seed(self.hyperparameters["seed"])
        self.module = self.recipe.build(self.config["arguments"])
        self.recipe.prepare(self.module, self.dataset)
        self.module.to(processes.device)
        self.parallel = data_parallel(self.module, processes)
        self.optimiser = make_optimiser(self.module, self.hyperparameters)
        self.checkpoints = Checkpoints(processes, self.module, self.optimiser, self.config, settings.out)
        self.metrics = Metrics(settings.metrics if processes.first else None, self.total_steps)
        self.highest_grad_norm = 0.0
        self.figures: dict[str, float] = {}
        self.evaluated_step = -1
        self.step = self.checkpoints.restore(settings.carried_in)
        if self.step:
            processes.say(f"Going on from the checkpoint of step {self.step:,} of {self.total_steps:,}.")

    def run(self) -> None:
        """Train to the end. Raises Stopped, or Failure if the run diverged; in both cases all processes do."""
        evaluate_every = self.hyperparameters["evaluate_every_steps"] or self.order.steps_per_epoch
        self.metrics.resume()
        while self.step < self.total_steps:
            self._step()
            if self.step % evaluate_every == 0 and self.step < self.total_steps:
                self.evaluate()
            if self.step % self.hyperparameters["checkpoint_every_steps"] == 0 and self.step < self.total_steps:
                self.processes.average(self.module.buffers())
                self.checkpoints.begin(self.step)
            self.checkpoints.settle(wait=False)
        self.evaluate()
        self.checkpoints.finish(self.step)

    def _step(self) -> None:
        hyperparameters, processes = self.hyperparameters, self.processes
        rate = learning_rate(self.step, self.total_steps, hyperparameters)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(step_seed(hyperparameters["seed"], self.step, processes.rank))
        loss = self._backward()
        limit = hyperparameters["gradient_clip"] or math.inf
        grad_norm = float(nn.utils.clip_grad_norm_(self.module.parameters(), limit))
        loss_sum, stop_wanted = processes.summed([loss, float(processes.stop_wanted)])
        loss = loss_sum / processes.world_size
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            self._fail_diverged(loss, grad_norm)
        self.optimiser.step()
        self.step += 1
        self.highest_grad_norm = max(self.highest_grad_norm, grad_norm)
        self.metrics.step(
            self.step,
            loss=loss,
            items=hyperparameters["batch_size"],
            learning_rate=rate,
            grad_norm=grad_norm,
            now=self.step in (1, self.total_steps),
        )
        if stop_wanted:
            self._stop()

    def _backward(self) -> float:
        """Gradients of this process' share of the batch, in parts; the mean loss over the share."""
        parts = self.order[self.step].chunk(self.hyperparameters["accumulation"])
        self.parallel.train()
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for number, indexes in enumerate(parts):
            batch = self._batch(indexes, bool(self.hyperparameters.get("augment")))
            last = number == len(parts) - 1
            with nullcontext() if last else self.parallel.no_sync():
                with self._precision():
                    loss = self.recipe.loss(self.parallel, batch) / len(parts)
                loss.backward()
            total += float(loss.detach())
        return total

    @torch.inference_mode()
    def evaluate(self) -> None:
        """Figures of the held-out items, each process taking its share of them."""
        if self.evaluated_step == self.step:
            return
        self.metrics.pause()
        self.processes.average(self.module.buffers())
        self.module.eval()
        held_out = torch.from_numpy(self.dataset.held_out)[self.processes.rank :: self.processes.world_size]
        # Every process names the same sums, also one that has no item.
        sums: dict[str, float] = {}
        for indexes in held_out.split(EVALUATION_BATCH) or (held_out,):
            with self._precision():
                measured = self.recipe.measure(self.module, self._batch(indexes, False))
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        self.figures = self.recipe.metrics(dict(zip(sums, self.processes.summed(list(sums.values())), strict=True)))
        self.evaluated_step = self.step
        self.metrics.write(self.step, **self.figures)
        self.metrics.resume()
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.figures.items())
        self.processes.say(f"Step {self.step:,} of {self.total_steps:,}: {shown}.")

    def _batch(self, indexes: Tensor, augment: bool) -> tuple[Tensor, Tensor]:
        inputs, targets = self.recipe.batch(self.dataset, indexes, augment)
        return inputs.to(self.processes.device), targets.to(self.processes.device)

    def _precision(self) -> Any:
        bf16 = self.hyperparameters["precision"] == "bf16"
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=bf16)

    def _stop(self) -> None:
        self.processes.average(self.module.buffers())
        self.checkpoints.finish(self.step)
        self.processes.say(f"Stopped at step {self.step:,} of {self.total_steps:,}; its checkpoint is written.")
        raise Stopped

    def _fail_diverged(self, loss: float, grad_norm: float) -> None:
        self.checkpoints.settle(wait=True)
        raise diverged(
            step=self.step + 1,
            loss=loss,
            highest_grad_norm=max(self.highest_grad_norm, grad_norm if math.isfinite(grad_norm) else 0.0),
            hyperparameters=self.hyperparameters,
            checkpoint_step=self.checkpoints.saved_step,
        )
