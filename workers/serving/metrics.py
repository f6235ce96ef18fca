"""Counts of requests: as Prometheus text, and as windows that the control plane collects.

Counting costs a request a few dictionary updates; all else is worked out when someone asks.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# More than a window holds at 100,000 requests/s: only a metrics file that can't be written for long gets here.
MOST_LATENCIES = 1_000_000


class Metrics:
    """Every call but those to health and /metrics is counted, in exactly one window; latencies are of predictions
    that were answered. All methods belong to the event loop's thread.

    `path`: JSON lines are appended there, None for nowhere. `gauges`: names, help and current values.
    """

    def __init__(self, path: Path | None, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._path = path
        self._gauges = gauges
        self._totals: dict[int, int] = {}
        self._histogram = np.zeros(len(BUCKETS_SECONDS) + 1, dtype=np.int64)
        self._latency_sum_seconds = 0.0
        self._torn = path is not None and not _ends_in_newline(path)
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self))
        self._begin_window()

    def count(self, status: int, key: str | None, latency_seconds: float | None) -> None:
        statuses, keys = self._statuses, self._keys
        statuses[status] = statuses.get(status, 0) + 1
        if key is not None:
            keys[key] = keys.get(key, 0) + 1
        if latency_seconds is not None and len(self._latencies) < MOST_LATENCIES:
            self._latencies.append(latency_seconds)

    def flush(self) -> None:
        """Ends the window and appends it. Where that fails the window goes on, so that nothing is lost or doubled."""
        if not self._statuses:
            self._window_began = time.monotonic()
            return
        if self._path is not None and not self._append(self._window()):
            return
        for status, count in self._statuses.items():
            self._totals[status] = self._totals.get(status, 0) + count
        latencies = np.frombuffer(self._latencies, dtype=np.float64)
        self._histogram += _bucketed(latencies)
        self._latency_sum_seconds += float(latencies.sum())
        self._begin_window()

    def prometheus(self) -> bytes:
        return generate_latest(self._registry)

    def families(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("windlass_requests", "Calls by status.", labels=["status"])
        for status in sorted({*self._totals, *self._statuses}):
            requests.add_metric([str(status)], self._totals.get(status, 0) + self._statuses.get(status, 0))
        yield requests
        latencies = np.frombuffer(self._latencies, dtype=np.float64)
        running = np.cumsum(self._histogram + _bucketed(latencies)).tolist()
        yield HistogramMetricFamily(
            "windlass_request_duration_seconds",
            "From the last byte of a prediction's request to its answer.",
            buckets=[
                (str(edge), float(count)) for edge, count in zip((*BUCKETS_SECONDS, "+Inf"), running, strict=True)
            ],
            sum_value=self._latency_sum_seconds + float(latencies.sum()),
        )
        for name, (text, value) in self._gauges.items():
            yield GaugeMetricFamily(name, text, value=value())

    def _begin_window(self) -> None:
        self._statuses: dict[int, int] = {}
        self._keys: dict[str, int] = {}
        self._latencies = array("d")
        self._window_began = time.monotonic()

    def _window(self) -> dict[str, Any]:
        latencies = np.frombuffer(self._latencies, dtype=np.float64)
        at = np.percentile(latencies, (50, 95, 99)) * 1000 if len(latencies) else ()
        return {
            "time": time.time(),
            "window_seconds": round(time.monotonic() - self._window_began, 3),
            "requests": {str(status): count for status, count in self._statuses.items()},
            "keys": self._keys,
            "latency_ms": {name: round(float(ms), 3) for name, ms in zip(("p50", "p95", "p99"), at, strict=False)},
        }

    def _append(self, window: dict[str, Any]) -> bool:
        # One write, so that a reader or a SIGKILL finds whole lines; after a torn one the next starts on a new line.
        line = (b"\n" if self._torn else b"") + orjson.dumps(window) + b"\n"
        try:
            descriptor = os.open(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                written = os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            print(f"The metrics can't be written, they are kept for the next try: {error}", flush=True)
            return False
        self._torn = written < len(line)
        return not self._torn


class _Families(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()


def _bucketed(latencies: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    edges = np.searchsorted(BUCKETS_SECONDS, latencies, side="left")
    return np.bincount(edges, minlength=len(BUCKETS_SECONDS) + 1)


def _ends_in_newline(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except OSError:
        return True
