"""What the environment says. All of it has a default, so that a replica can be started by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.serving.signature import BadModel


@dataclass(frozen=True)
class Settings:
    """`deployment`: "workspace/deployment". `listen_fd`: a socket that listens already, else `port` of this machine.
    `max_buffered_bytes`: of all bodies that are being received or wait."""

    inputs: Path
    live: Path
    metrics: Path | None
    model: str
    deployment: str
    revision: str
    listen_fd: int | None
    port: int
    threads: int
    max_queue: int
    max_body_bytes: int
    max_buffered_bytes: int
    drain_seconds: float

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Raises BadModel that names the variable and a value that works."""

        def number(name: str, default: float, least: float = 0) -> float:
            text = environment.get(name, "")
            try:
                value = float(text) if text else default
            except ValueError:
                value = -1
            if not least <= value < 2**40:
                raise BadModel(
                    "BadSetting", f"{name} is {text!r}; it must be a number from {least:g} on, such as {default:g}."
                )
            return value

        metrics = environment.get("WINDLASS_METRICS")
        max_body_bytes = int(number("WINDLASS_MAX_BODY_BYTES", 64 * 1024**2, 1))
        return cls(
            inputs=Path(environment.get("WINDLASS_IN", "in")),
            live=Path(environment.get("WINDLASS_LIVE", "live")),
            metrics=Path(metrics) if metrics else None,
            model=environment.get("WINDLASS_MODEL") or "model",
            deployment=environment.get("WINDLASS_DEPLOYMENT") or "default/model",
            revision=environment.get("WINDLASS_REVISION") or "1",
            listen_fd=int(number("WINDLASS_LISTEN_FD", 0)) if environment.get("WINDLASS_LISTEN_FD") else None,
            port=int(number("WINDLASS_PORT", 8080)),
            threads=int(number("WINDLASS_THREADS", 1, 1)),
            max_queue=int(number("WINDLASS_MAX_QUEUE", 256, 1)),
            max_body_bytes=max_body_bytes,
            max_buffered_bytes=int(number("WINDLASS_MAX_BUFFERED_BYTES", 4 * max_body_bytes, 1)),
            drain_seconds=number("WINDLASS_DRAIN_SECONDS", 1.0),
        )
