"""The ground of every test: a PostgreSQL and a Valkey of the test run's own, started when first needed.

The environment is set when this module is loaded, which is before Django reads its settings. Tests that need no
Django run with `-p no:django` too, and start nothing.
"""

import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import django
import pytest

from tests.figures import MEASURED, missed

for name in [name for name in os.environ if name.startswith("WINDLASS_")]:
    del os.environ[name]  # a developer's own installation is none of the tests' business
VAR = Path(tempfile.mkdtemp(prefix="windlass-tests-"))
os.environ["WINDLASS_VAR"] = str(VAR)
os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


django.setup()  # here, since the conftest modules of folders import models


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the coverage before the closing line, where `make test` measures it."""
    if "coverage" in sys.modules and (measured := sys.modules["coverage"].Coverage.current()) is not None:
        with suppress(sys.modules["coverage"].CoverageException):
            measured.stop()
            percent = measured.report(file=io.StringIO())
            terminalreporter.write_line(f"coverage of this process's own lines: {percent:.0f} %")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if missed() and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_unconfigure() -> None:
    for line in MEASURED:
        print(json.dumps(line))
    warnings.simplefilter("ignore")  # what is told while all is taken down would follow the closing line
    shutil.rmtree(VAR, ignore_errors=True)


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """The embedded services, as `make up` starts them; gives the data directory of the test run."""
    from controlplane import configuration, installation
    from controlplane.embedded import postgres, valkey
    from controlplane.embedded.program import spawn, stop, wait_ready

    settings = configuration.load()
    installation.var_directory(settings)
    run = settings.run_directory
    programs = []
    if settings.embedded_postgres:
        postgres.prepare(VAR / "postgres", run / "postgres")
        programs.append(postgres.program(VAR / "postgres", run / "postgres", FAST))
    if settings.embedded_valkey:
        run.mkdir(parents=True, exist_ok=True)
        programs.append(valkey.program(run / "valkey.sock"))
    with ExitStack() as services:
        for program in programs:
            log = VAR / f"{program.name}.log"
            process = spawn(program, log)
            services.callback(stop, program, process)
            wait_ready(program, process, log)
        yield VAR


@pytest.fixture(scope="session")
def django_db_modify_db_settings(ground: Path) -> None:
    """pytest-django asks for this before it makes the test database."""
