import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest


def npy(values):
    content = io.BytesIO()
    np.save(content, values, allow_pickle=True)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The file is empty."),
        (bytes(range(256)) * 10, "The file is of no known kind. Upload an npz, a zip of image folders, CSV"),
        (npy(np.zeros(3)), "one NumPy array, without labels"),
        (b'[{"text": "a"}]', "Write JSON Lines"),
        (b"\x89PNG\r\n\x1a\n....", "The file is one image."),
        (b"\x1f\x8b\x08....", "Unpack it."),
        ("a,label\n1,2\n".encode("utf-16"), "Save it as UTF-8"),
        (b"\x89HDF\r\n\x1a\n....", "HDF5"),
    ],
)
def test_a_file_that_is_no_dataset_says_what_it_is(inspect_dataset, content, message):
    ended = inspect_dataset(content, filename="mine.bin")
    assert ended.code == 1
    assert ended.failure["failure"] == "NotADataset"
    assert ended.failure["message"].startswith("mine.bin is no dataset. ") and message in ended.failure["message"]
    assert ended.report == {**ended.report, "ok": False, "message": ended.failure["message"], "problem_count": 0}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_refused_whatever_their_name(inspect_dataset, protocol):
    ended = inspect_dataset(pickle.dumps({"a": [1, 2]}, protocol), filename="model.pkl")
    assert ended.failure["failure"] == "PickleRefused"
    assert "`model.pkl` is a Python pickle, and opening one can run code." in ended.failure["message"]


def test_a_torch_file_is_refused(inspect_dataset, zipped):
    ended = inspect_dataset(zipped({"archive/data.pkl": b"x", "archive/version": b"3"}), filename="data.pt")
    assert ended.failure["failure"] == "PickleRefused"


def test_the_name_decides_nothing(inspect_dataset, npz):
    ended = inspect_dataset(npz(x=np.zeros((20, 2)), y=np.arange(20) % 2), filename="photos.csv")
    assert ended.report["ok"] and ended.report["format"] == "npz"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"held_out_fraction": 1.5}, "held_out_fraction must lie between 0 and 1, and is 1.5. 0.2 would work."),
        ({"seed": -1}, "seed must be a whole number"),
        ({"image_size": 0}, "image_size must be"),
        ({"label_column": 3}, "label_column must be"),
    ],
)
def test_choices_that_cannot_be_are_refused(inspect_dataset, choices, message):
    ended = inspect_dataset(b"a,label\n1,2\n", **choices)
    assert ended.code == 1 and message in ended.failure["message"]
    assert ended.failure["failure"] == "BadHyperparameters" and ended.report["ok"] is False


def test_neither_torch_nor_django_is_loaded():
    program = (
        "import sys, workers.inspection.dataset as d; d.readers(); print({'torch', 'django'} & sys.modules.keys())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=os.getcwd(), check=True)
    assert ended.stdout == "set()\n"
