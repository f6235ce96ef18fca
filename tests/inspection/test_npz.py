import io
import zipfile

import numpy as np
import pytest

LABELS = np.array([0, 1] * 10)


def test_images_without_a_channel_axis_get_one(inspect_dataset, npz):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5), np.uint8)
    ended = inspect_dataset(npz(X=images, y=LABELS))
    assert ended.code == 0, ended.log
    assert ended.described["kind"] == "image" and ended.described["shape"] == [1, 6, 5]
    assert ended.described["value_range"] == [0, 255]
    features = ended.array("features")
    assert features.dtype == np.uint8 and (features[:, 0] == images).all()
    assert (ended.array("labels") == LABELS).all()


def test_the_channel_axis_is_moved_to_the_front(inspect_dataset, npz):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), np.uint8)
    ended = inspect_dataset(npz(images=images, labels=LABELS))
    assert (ended.array("features") == images.transpose(0, 3, 1, 2)).all()


def test_values_between_0_and_1_become_bytes(inspect_dataset, npz):
    images = np.random.default_rng(0).random((20, 4, 4))
    ended = inspect_dataset(npz(x=images, y=LABELS))
    assert (ended.array("features")[:, 0] == np.rint(images * 255)).all()
    assert ended.described["value_range"] == [0, 255]
    assert "stored as bytes" in ended.report["notes"][0]


def test_two_axes_are_a_table_in_float32(inspect_dataset, npz):
    rows = np.asfortranarray(np.random.default_rng(0).normal(size=(20, 3)))
    ended = inspect_dataset(npz(data=rows, target=np.array(["yes", "no"] * 10)))
    assert ended.described["kind"] == "table" and ended.described["classes"] == ["no", "yes"]
    features = ended.array("features")
    assert features.dtype == np.float32 and np.allclose(features, rows)
    assert ended.array("labels").tolist() == [1, 0] * 10


def test_a_split_that_the_file_brings_is_kept(inspect_dataset, npz):
    rows = np.arange(40.0).reshape(20, 2)
    ended = inspect_dataset(npz(x_train=rows[:15], y_train=LABELS[:15], x_test=rows[15:], y_test=LABELS[15:]))
    assert ended.described["split"]["origin"] == "given"
    assert ended.array("split").tolist() == [0] * 15 + [1] * 5


def test_whole_number_classes_are_sorted_by_value(inspect_dataset, npz):
    ended = inspect_dataset(npz(x=np.zeros((36, 2)), y=np.arange(36) % 12))
    assert ended.described["classes"] == [str(number) for number in range(12)]


def test_pickled_objects_are_refused_and_never_opened(inspect_dataset, npz, tmp_path):
    class Opened:
        def __reduce__(self):
            return open, (str(tmp_path / "opened"), "w")

    ended = inspect_dataset(npz(x=np.array([Opened()], dtype=object), y=np.zeros(1)), filename="mine.npz")
    assert ended.code == 1
    assert ended.failure["failure"] == "PickleRefused"
    assert "`mine.npz: x` is a Python pickle, and opening one can run code." in ended.failure["message"]
    assert not (tmp_path / "opened").exists()


def test_a_header_that_promises_more_than_the_file_holds_is_refused(inspect_dataset):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 8)})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    ended = inspect_dataset(content.getvalue())
    assert ended.failure["failure"] == "NotADataset"
    assert "promises shape [1000000000000, 8] of float64, but holds 0 bytes" in ended.failure["message"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((3, 2))}, "it holds a. Name the items features or X or x"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(2)}, 'must hold one label for each item of "x"'),
        ({"x": np.zeros((20, 2)), "y": np.linspace(0, 1, 20)}, "holds fractions"),
        ({"x": np.zeros((20, 2)), "y": np.zeros(20)}, 'All 20 items are of one class, "0"'),
        ({"x": np.zeros((40, 2)), "y": np.arange(40)}, "40 different values in 40 items, so they are no classes"),
        ({"x": np.full((20, 4, 4), -3.5), "y": LABELS}, "image values lie between -3.5 and -3.5"),
        ({"x": np.full((20, 4, 4), np.nan), "y": LABELS}, "not numbers (NaN or infinity)"),
        ({"x": np.zeros((20, 2, 2, 2, 2)), "y": LABELS}, "has 5 axes"),
        ({"x": np.array([["a", "b"]] * 20), "y": LABELS}, "not numbers. Save it as float32"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "has shape [0, 2], so it holds nothing"),
    ],
)
def test_arrays_that_are_no_dataset_say_why(inspect_dataset, npz, arrays, message):
    ended = inspect_dataset(npz(**arrays))
    assert ended.code == 1
    assert ended.failure["failure"] == "NotADataset" and message in ended.failure["message"]
    assert ended.report["ok"] is False and ended.report["message"] == ended.failure["message"]
    assert not (ended.out / "prepared").exists()


def test_a_row_with_nan_is_named(inspect_dataset, npz):
    rows = np.zeros((20, 3))
    rows[4, 1] = np.nan
    ended = inspect_dataset(npz(x=rows, y=LABELS))
    assert ended.failure["failure"] == "BadRows"
    assert ended.report["problems"] == [
        {
            "row": 5,
            "what": "Row 5 can't be used: its value 2 is nan.",
            "fix": "Leave out the bad row, or upload the file again.",
        }
    ]


def test_a_damaged_archive_is_refused(inspect_dataset, npz):
    content = bytearray(npz(x=np.random.default_rng(0).random((200, 5)), y=np.arange(200) % 2))
    content[500:600] = bytes(100)
    ended = inspect_dataset(bytes(content))
    assert ended.code == 1 and "damaged" in ended.failure["message"]
