"""Measuring a model before and after: its answers on held-out data, and its latency."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workers.export.held_out import HeldOut
from workers.inspection.program import Refused

if TYPE_CHECKING:
    import onnxruntime
    import torch

Model = Callable[[NDArray[np.float32]], NDArray[Any]]
"""A batch of inputs to the first output, [batch, ...]."""

WARM_UP_PAIRS = 20
MOST_PAIRS = 1000
LATENCY_SECONDS = 4.0


def of_session(loaded: onnxruntime.InferenceSession) -> Model:
    name = loaded.get_inputs()[0].name
    first = [loaded.get_outputs()[0].name]
    return lambda batch: loaded.run(first, {name: batch})[0]


def of_module(module: torch.nn.Module) -> Model:
    import torch

    @torch.inference_mode()
    def answer(batch: NDArray[np.float32]) -> NDArray[Any]:
        output: NDArray[Any] = module(torch.from_numpy(batch)).numpy()
        return output

    return answer


@dataclass(frozen=True)
class Answers:
    """What both models said of every held-out item.

    `before` and `after`: the class each chose, int64 [items]; None where the output is not [items, classes].
    `not_finite`: items for which the model after answers NaN or infinity; they are left out of the differences.
    """

    max_abs_difference: float
    mean_abs_difference: float
    not_finite: int
    before: NDArray[np.int64] | None
    after: NDArray[np.int64] | None


def answers(before: Model, after: Model, held_out: HeldOut) -> Answers:
    """Raises Refused if the model before answers NaN: nothing can be compared with that."""
    largest, total, values, not_finite = 0.0, 0.0, 0, 0
    chosen: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for left, right in _pairs(before, after, held_out):
        if not np.isfinite(left).all():
            raise Refused("NotFinite", "The trained model answers NaN or infinity on held-out data. Train it again.")
        sound = np.isfinite(right).reshape(len(right), -1).all(axis=1)
        not_finite += int((~sound).sum())
        difference = np.abs(left[sound].astype(np.float64) - right[sound])
        if difference.size:
            largest = max(largest, float(difference.max()))
            total, values = total + float(difference.sum()), values + difference.size
        if left.ndim == 2 and left.shape[1] > 1:
            # A class is never -1, so an answer that is no number counts as changed and as wrong.
            chosen.append((left.argmax(1), np.where(sound, np.nan_to_num(right).argmax(1), -1)))
    both = [np.concatenate(side) for side in zip(*chosen, strict=True)] if chosen else [None, None]
    return Answers(largest, total / values if values else 0.0, not_finite, both[0], both[1])


def _pairs(before: Model, after: Model, held_out: HeldOut) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for batch in held_out.batches():
        yield before(batch), after(batch)


@dataclass(frozen=True)
class Latency:
    p50_ms: float
    p99_ms: float


def latencies(before: Model, after: Model, item: NDArray[np.float32]) -> tuple[Latency, Latency, int]:
    """Batch 1, turn about in one process, so that what else the machine does falls on both. Also the runs of each."""
    taken: tuple[list[int], list[int]] = ([], [])
    models = (before, after)
    for _ in range(WARM_UP_PAIRS):
        before(item)
        after(item)
    end = time.monotonic() + LATENCY_SECONDS
    gc.disable()
    try:
        while len(taken[0]) < MOST_PAIRS and (time.monotonic() < end or len(taken[0]) < 20):
            # Who goes first changes, as the second finds warmer caches.
            for which in (0, 1) if len(taken[0]) % 2 else (1, 0):
                start = time.perf_counter_ns()
                models[which](item)
                taken[which].append(time.perf_counter_ns() - start)
    finally:
        gc.enable()
    figures = [Latency(*(float(np.percentile(side, q)) / 1e6 for q in (50, 99))) for side in taken]
    return figures[0], figures[1], len(taken[0])
