"""Metrics as JSON lines, a few a second at most: one line is one point of every chart."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

SECONDS_BETWEEN_LINES = 0.25


class Metrics:
    """Written by one process. A step's figures are averaged over the steps since the last line."""

    def __init__(self, path: Path | None, total_steps: int) -> None:
        self._path = path
        self._total_steps = total_steps
        self._forget()

    def _forget(self) -> None:
        self._since = self._resumed = time.monotonic()
        self._stepping_seconds = 0.0
        self._losses: list[float] = []
        self._items = 0

    def step(self, step: int, *, loss: float, items: int, learning_rate: float, grad_norm: float, now: bool) -> None:
        """Take one step's figures; write a line if the last is old enough, or `now`."""
        self._losses.append(loss)
        self._items += items
        moment = time.monotonic()
        if now or moment - self._since >= SECONDS_BETWEEN_LINES:
            seconds = self._stepping_seconds + moment - self._resumed
            self.write(
                step,
                loss=sum(self._losses) / len(self._losses),
                learning_rate=learning_rate,
                grad_norm=grad_norm,
                items_per_second=round(self._items / max(seconds, 1e-9), 1),
            )
            self._forget()

    def write(self, step: int, **figures: float) -> None:
        """One line, at once. Figures that are no JSON numbers (NaN) are left out."""
        if self._path:
            finite = {name: value for name, value in figures.items() if math.isfinite(value)}
            point = {"step": step, "total_steps": self._total_steps, "time": round(time.time(), 3)} | finite
            with self._path.open("a") as file:
                file.write(json.dumps(point) + "\n")

    def pause(self) -> None:
        """An evaluation begins: its time is not the steps' time."""
        self._stepping_seconds += time.monotonic() - self._resumed

    def resume(self) -> None:
        """Steps go on. The next line is due as before: evaluations after every few steps must not put it off."""
        self._resumed = time.monotonic()
