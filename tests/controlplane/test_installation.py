"""Keys and identity are made once, are private, and are never replaced."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from controlplane import installation
from controlplane.configuration import Configuration

TWO_KEYS = json.dumps([{"id": "new", "key": "A" * 43 + "="}, {"id": "old", "key": "B" * 42 + "A="}])


def test_keys_are_made_once_and_privately(tmp_path: Path) -> None:
    configuration = Configuration(var=tmp_path / "var")
    first = installation.keys(configuration)
    assert installation.keys(configuration) == first
    assert stat.S_IMODE((tmp_path / "var" / "keys.json").stat().st_mode) == 0o600


def test_two_processes_that_start_at_once_get_the_same(tmp_path: Path) -> None:
    configuration = Configuration(var=tmp_path / "var")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: installation.keys(configuration), range(8)))
        hosts = set(threads.map(lambda _: installation.host_id(configuration), range(8)))
    assert all(keys == found[0] for keys in found) and len(hosts) == 1


def test_the_first_key_is_in_use_and_the_others_are_still_accepted() -> None:
    keys = installation.keys(Configuration(keys=TWO_KEYS))
    assert list(keys.by_id) == ["new", "old"]
    in_use, accepted = keys.derived("purpose")
    assert in_use != accepted and keys.derived("another purpose")[0] != in_use


@pytest.mark.parametrize("text", ["", "[]", "{}", '[{"id": "a", "key": "AAAA"}]', '[{"id": "a"}]', "not JSON"])
def test_bad_key_material_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(SystemExit, match="WINDLASS_KEYS"):
        installation.read_keys(text, "WINDLASS_KEYS")


def test_a_directory_that_somebody_else_prepared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(SystemExit, match="belongs to somebody else"):
        installation.private_directory(tmp_path / "link")
