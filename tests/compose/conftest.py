"""One engine and one installation for all tests here, which build on one another in the order of the file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose import engine as engines
from tests.compose.stack import Stack, image_bytes


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The image is built; nothing is started. At the end all is gone."""
    if os.geteuid() != 0:
        pytest.fail("The Docker engine of these tests needs root: sudo make test-compose")
    engines.install()
    kept = os.environ.get("COMPOSE_TEST_ENGINE")
    root = Path(kept).absolute() if kept else engines.new_root()
    (root / "config").mkdir(parents=True, exist_ok=True)
    engine = engines.Engine(root)
    try:
        with engine.running():
            began = time.monotonic()
            engine.build()
            stack = Stack(engine)
            size = image_bytes(engine) / 1e9
            stack.measured("compose_build", time.monotonic() - began, "s", "none set", True)
            stack.measured("image_size", size, "GB", "< 2.5", size < 2.5)
            try:
                yield stack
            finally:
                stack.client.http.close()
                stack.compose("down", "--volumes", "--timeout", "20")
    finally:
        if not kept:
            engines.remove(root)
