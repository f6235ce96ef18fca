from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.replica import Replica, running


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One replica for a file of tests that leave it as it was."""
    with running(tmp_path_factory.mktemp("replica")) as replica:
        yield replica
