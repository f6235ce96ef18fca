import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.harness import Gateway


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not pytest's own: the admin socket's path must stay short.
    path = Path(tempfile.mkdtemp(prefix="gw-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def gateway(directory: Path) -> Iterator[Gateway]:
    gateway = Gateway(directory)
    gateway.start()
    yield gateway
    gateway.close()
