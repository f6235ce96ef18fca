"""What goes wrong in one process of several: the first that fell is told, in its own words, not torchrun's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bad_input.conftest import World
from workers.reconcilers import training

SECOND = "import os, sys, time\nif os.environ['RANK'] == '0':\n    time.sleep(600)\n"


@pytest.fixture
def torchrun(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(training, "ELASTIC_RESTARTS", 0)  # that restarts work is proved elsewhere
    world.torchrun = True
    yield
    world.torchrun = False


def test_the_process_that_fell_first_is_told(world: World, torchrun: None) -> None:
    sizes = {"processes": 2, "memory_bytes_per_process": 1024**3}
    fails = world.start(f"{SECOND}\n\n\nimport albumentations\n", **sizes)
    exits = world.start(f"{SECOND}print('No GPU here.')\nsys.exit(3)\n", **sizes)
    told = world.end(fails)
    assert (told["phase"], told["reason"]) == ("failed", "ProgramFailed")
    assert told["message"].startswith("Your script stopped at line 7: no module named `albumentations`. ")
    told = world.end(exits)
    assert (told["phase"], told["reason"]) == ("failed", "ProgramFailed")
    assert told["message"].startswith("Your script ended with exit code 3; its last line was “No GPU here.” ")
    world.nothing_left()
    world.torchrun = False
    world.goes_on()
