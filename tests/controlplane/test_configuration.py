"""Settings: each has a default, and all that is wrong is told at once, with a value that works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.configuration import LONGEST_RUN_DIRECTORY, Configuration, unknown_variables


def load(**environment: str) -> subprocess.CompletedProcess[str]:
    program = "from controlplane import configuration; print(configuration.load().web_url)"
    base = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
    return subprocess.run([sys.executable, "-c", program], env={**base, **environment}, capture_output=True, text=True)


def test_everything_has_a_default() -> None:
    assert load().stdout == "http://127.0.0.1:8000\n"


def test_an_empty_variable_is_a_default() -> None:
    assert load(WINDLASS_PORT="", DATABASE_URL="").stdout == "http://127.0.0.1:8000\n"


def test_all_that_is_wrong_is_told_in_one_list() -> None:
    refused = load(
        WINDLASS_PORT="eighty",
        WINDLASS_STORAGE="ftp://x",
        DATABASE_URL="mysql://root:hunter2@db/x",
        REDIS_URL="amqp://x",
        ENVOY_BIN="/nowhere/envoy",
        WINDLASS_TIME_SCALE="0",
    )
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    for name in ("WINDLASS_PORT", "WINDLASS_STORAGE", "DATABASE_URL", "REDIS_URL", "ENVOY_BIN", "WINDLASS_TIME_SCALE"):
        assert any(line.startswith(f"  - {name}") for line in refused.stderr.splitlines()), name
    assert refused.stderr.count("A value that works: ") == 6
    assert "hunter2" not in refused.stderr


def test_the_two_ports_must_differ() -> None:
    assert "cannot share port 8080" in load(WINDLASS_PORT="8080").stderr


@pytest.mark.parametrize("var", ["/srv/" + "deep/" * 40, "/srv/with space", "/srv/größe"])
def test_sockets_are_kept_where_their_path_is_short_and_plain(var: str) -> None:
    directory = Configuration(var=Path(var)).run_directory
    assert len(os.fsencode(directory)) <= LONGEST_RUN_DIRECTORY
    assert str(directory).isascii() and " " not in str(directory)
    assert directory != Configuration(var=Path(var + "2")).run_directory


def test_a_database_elsewhere_replaces_the_embedded_one() -> None:
    settings = Configuration(database_url="postgresql://me@db/x", redis_url="unix:///run/valkey.sock")
    assert settings.database == "postgresql://me@db/x" and not settings.embedded_postgres
    assert settings.broker == "redis+socket:///run/valkey.sock" and not settings.embedded_valkey


def test_a_misspelt_name_is_found() -> None:
    assert unknown_variables({"WINDLASS_PROT": "1", "WINDLASS_PORT": "1", "PATH": ""}) == [
        "WINDLASS_PROT is no setting; did you mean WINDLASS_PORT?"
    ]
