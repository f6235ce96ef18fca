"""Uploads that are no dataset: the real check says what they are and what would be one, by row where rows are bad."""

from __future__ import annotations

import io
import pickle
import zipfile

import pytest

from apps.registry.models import DatasetVersion
from tests.bad_input.conftest import World


def zipped(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, inner in files.items():
            archive.writestr(name.replace("__", "/"), inner)
    return content.getvalue()


GOOD = b"width,height,label\n" + b"".join(b"%d,%d,%d\n" % (n, n * 2, n % 2) for n in range(20))
# By name: the file, its content, then the reason and what its message begins with and ends with.
UPLOADS: dict[str, tuple[str, bytes, str, str, str]] = {
    "a pickle": (
        "data.npz",
        pickle.dumps({"features": [1, 2], "labels": [0, 1]}),
        "PickleRefused",
        "`data.npz` is a Python pickle, and opening one can run code. ",
        'Save the arrays with np.savez("data.npz", features=x, labels=y), and upload that.',
    ),
    "an empty file": (
        "data.csv",
        b"",
        "NotADataset",
        "data.csv is no dataset. The file is empty. ",
        "Upload an npz, a zip of image folders, CSV, Parquet or JSON Lines.",
    ),
    "a text that is called npz": (
        "data.npz",
        b"Dear reader,\nthis is a letter and no array.\n",
        "NotADataset",
        "This file can't be used as a dataset: no column is named label, target, class or y. Its columns are Dear ",
        "Name the one to learn in label_column.",
    ),
    "a zip that leads outside": (
        "images.zip",
        zipped(**{"..__..__etc__passwd": b"x", "cat__1.png": b"x"}),
        "UnsafeArchive",
        'The zip has an entry "../../etc/passwd" that points outside of it. Zip the folder itself. ',
        "Nothing was unpacked.",
    ),
    "a table without a label": (
        "data.csv",
        GOOD.replace(b"label", b"size"),
        "NotADataset",
        "This file can't be used as a dataset: no column is named label, target, class or y. Its columns are width, ",
        "height, size. Name the one to learn in label_column.",
    ),
    "a table with bad rows": (
        "data.csv",
        GOOD + b"tall,3,1\n4,,0\n",
        "BadRows",
        "Row 21",
        "(skip_bad_rows), or upload the file again.",
    ),
}


@pytest.fixture(scope="module")
def versions(world: World) -> dict[str, DatasetVersion]:
    started = {name: world.dataset_version(content, file) for name, (file, content, *_) in UPLOADS.items()}
    world.until(lambda: not DatasetVersion.objects.exclude(phase__in=DatasetVersion.phases.final).exists(), 80)
    return started


@pytest.mark.parametrize("name", UPLOADS)
def test_no_dataset_is(world: World, versions: dict[str, DatasetVersion], name: str) -> None:
    _file, _content, reason, begins, ends = UPLOADS[name]
    told = world.told(versions[name])
    assert (told["phase"], told["reason"]) == ("failed", reason)
    assert told["message"].startswith(begins) and told["message"].endswith(ends)
    assert told["report"]["ok"] is False and told["report"]["message"] == told["message"]


def test_bad_rows_are_listed_and_can_be_left_out(world: World, versions: dict[str, DatasetVersion]) -> None:
    problems = world.told(versions["a table with bad rows"])["report"]["problems"]
    assert [problem["row"] for problem in problems] == [21, 22]
    again = world.dataset_version(UPLOADS["a table with bad rows"][1], "data.csv", skip_bad_rows=True)
    told = world.end(again)
    assert (told["phase"], told["items"]) == ("ready", 20)


def test_nothing_can_be_trained_on_them(world: World, versions: dict[str, DatasetVersion]) -> None:
    version = versions["a pickle"]
    body = {"model": "bad", "recipe": "table_classifier", "dataset_version": version.typed_id}
    answer = world.api.post("training-runs", body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "dataset_version" and error["fix"] == "Upload it again."
    assert "is not ready: failed. `data.npz` is a Python pickle" in error["detail"]


def test_nothing_is_left_of_them(world: World, versions: dict[str, DatasetVersion]) -> None:
    world.nothing_left()
    world.goes_on()
