import io
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image


def folder(picture, count=6, **choices):
    return {
        f"{name}/{n}.png": picture(n + 10 * (name == "dog"), **choices) for name in ("cat", "dog") for n in range(count)
    }


def test_the_folder_names_the_class(inspect_dataset, zipped, picture):
    files = {f"pets/{name}": content for name, content in folder(picture).items()}
    ended = inspect_dataset(zipped(files))
    assert ended.code == 0, ended.log
    assert ended.described["classes"] == ["cat", "dog"] and ended.described["shape"] == [3, 10, 12]
    expected = np.asarray(Image.open(io.BytesIO(files["pets/cat/0.png"]))).transpose(2, 0, 1)
    assert (ended.array("features")[0] == expected).all()
    assert ended.array("labels").tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize("top", ["", "pets/"])
def test_train_and_test_folders_are_the_split(inspect_dataset, zipped, picture, top):
    files = {
        f"{top}{part}/{name}": content for part in ("train", "test") for name, content in folder(picture, 3).items()
    }
    ended = inspect_dataset(zipped(files))
    assert ended.described["classes"] == ["cat", "dog"]
    assert ended.described["split"]["origin"] == "given"
    assert ended.described["splits"] == {"train": 6, "held_out": 6}
    repeated = next(check for check in ended.report["checks"] if check["title"] == "Same images in both splits")
    assert repeated == {"title": "Same images in both splits", "found": "6", "ok": False}


def test_an_image_outside_of_the_split_folders_is_refused(inspect_dataset, zipped, picture):
    files = {f"{part}/{name}": content for part in ("train", "test") for name, content in folder(picture, 3).items()}
    ended = inspect_dataset(zipped(files | {"extra/1.png": picture()}))
    assert '"extra/1.png" lies in no class folder' in ended.failure["message"]


def test_a_class_named_test_beside_others_is_a_class(inspect_dataset, zipped, picture):
    files = {f"{name}/{n}.png": picture(n) for name in ("test", "production") for n in range(4)}
    assert inspect_dataset(zipped(files)).described["classes"] == ["production", "test"]


def test_other_sizes_are_resized_to_the_most_common_one(inspect_dataset, zipped, picture):
    files = folder(picture) | {"cat/large.png": picture(99, (40, 30))}
    ended = inspect_dataset(zipped(files))
    assert ended.array("features").shape == (13, 3, 10, 12)
    assert ended.report["notes"] == ["Of another size, and resized to 12 x 10: 1 images."]


def test_image_size_sets_the_size(inspect_dataset, zipped, picture):
    ended = inspect_dataset(zipped(folder(picture)), image_size=16)
    assert ended.described["shape"] == [3, 16, 16]


def test_grey_images_keep_one_channel(inspect_dataset, zipped, picture):
    assert inspect_dataset(zipped(folder(picture, mode="L"))).described["shape"] == [1, 10, 12]


def cut_jpeg(picture):
    return picture(1, (64, 64), kind="JPEG")[:2112]


def test_a_cut_image_is_named_with_the_fix(inspect_dataset, zipped, picture):
    content = cut_jpeg(picture)
    ended = inspect_dataset(zipped(folder(picture) | {"cat/broken.jpg": content, "dog/note.png": b"no image"}))
    assert ended.code == 1 and ended.failure["failure"] == "BadRows"
    assert ended.report["problem_count"] == 2
    assert ended.report["problems"][0] == {
        "row": 7,
        "what": f"Image 7 (cat/broken.jpg) can't be read: the JPEG ends after {len(content):,} bytes.",
        "fix": "Leave out the 2 bad rows, or upload the file again.",
    }
    assert "it is no image of a known format" in ended.report["problems"][1]["what"]


def test_bad_images_can_be_left_out(inspect_dataset, zipped, picture):
    files = folder(picture) | {"cat/a_broken.jpg": cut_jpeg(picture)}
    ended = inspect_dataset(zipped(files), skip_bad_rows=True)
    assert ended.code == 0 and ended.described["items"] == 12 and ended.report["left_out"] == 1
    assert len(ended.array("features")) == len(ended.array("labels")) == len(ended.array("split")) == 12
    assert ended.array("labels").tolist() == [0] * 6 + [1] * 6
    assert "1 left out" in ended.report["message"]


def test_file_manager_leavings_are_ignored(inspect_dataset, zipped, picture):
    files = folder(picture) | {"__MACOSX/cat/._0.png": b"x", "cat/.DS_Store": b"x", "Thumbs.db": b"x"}
    assert inspect_dataset(zipped(files)).described["items"] == 12


def test_images_outside_of_folders_are_refused(inspect_dataset, zipped, picture):
    ended = inspect_dataset(zipped(folder(picture) | {"loose.png": picture()}))
    assert (
        ended.failure["failure"] == "NotADataset" and '"loose.png" lies in no class folder' in ended.failure["message"]
    )


def test_a_zip_without_images_is_refused(inspect_dataset, zipped):
    ended = inspect_dataset(zipped({"a/b.txt": b"x"}))
    assert "The zip holds no images: 1 files, such as a/b.txt" in ended.failure["message"]


@pytest.mark.parametrize("name", ["../cat/1.png", "/cat/1.png", "cat/../../1.png", "C:/cat/1.png", "..\\cat\\1.png"])
def test_paths_that_leave_the_archive_are_refused(inspect_dataset, zipped, picture, name):
    ended = inspect_dataset(zipped(folder(picture) | {name: picture()}))
    assert ended.failure["failure"] == "UnsafeArchive"
    assert "points outside of it" in ended.failure["message"]


def test_links_are_refused(inspect_dataset, picture):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("cat/1.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    ended = inspect_dataset(content.getvalue())
    assert ended.failure["failure"] == "UnsafeArchive" and 'a link, "cat/1.png"' in ended.failure["message"]


def test_a_bomb_is_refused(inspect_dataset, zipped):
    ended = inspect_dataset(zipped({"cat/1.png": bytes(8 * 1024**2)}))
    assert ended.failure["failure"] == "UnsafeArchive" and "zip bomb" in ended.failure["message"]


def test_too_many_entries_are_refused(inspect_dataset):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(100_001):
            archive.writestr(zipfile.ZipInfo(f"cat/{number}.png"), b"")
    ended = inspect_dataset(content.getvalue())
    assert "The zip has 100,001 entries; the most is 100,000" in ended.failure["message"]


def test_an_image_of_too_many_pixels_is_a_bad_row(inspect_dataset, zipped, picture):
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, "PNG")
    ended = inspect_dataset(zipped(folder(picture) | {"cat/huge.png": content.getvalue()}))
    assert ended.failure["failure"] == "BadRows" and "pixels" in ended.failure["message"]


def test_a_cut_zip_is_refused(inspect_dataset, zipped, picture):
    ended = inspect_dataset(zipped(folder(picture))[:-100])
    assert ended.code == 1 and "was cut short" in ended.failure["message"]
