"""A zip of an image folder: a class is the name of the folder that an image lies in."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from workers.inspection.archives import safe_files
from workers.inspection.options import Read, Reading
from workers.inspection.prepared import HELD_OUT, MOST_PREPARED_BYTES, TRAIN, ItemWriter
from workers.inspection.program import Refused

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLIT_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "test": HELD_OUT,
    "testing": HELD_OUT,
    "val": HELD_OUT,
    "valid": HELD_OUT,
    "validation": HELD_OUT,
    "held_out": HELD_OUT,
}
MOST_PIXELS = 64 * 1024**2
MOST_FILE_BYTES = 256 * 1024**2
GREY_MODES = ("1", "L", "LA", "I;16", "I", "F")


class Unreadable(Exception):
    """An image that can't be used; the message ends the sentence "... can't be read: "."""


@dataclass(frozen=True)
class Member:
    """`row` counts the images from 1 in the order of their names."""

    row: int
    entry: zipfile.ZipInfo
    label: str
    split: int | None


def read(reading: Reading) -> Read:
    with zipfile.ZipFile(reading.upload) as archive:
        members = _members(safe_files(archive))
        reading.progress(0, len(members))
        size, grey, different = _most_common(archive, members, reading.options.image_size)
        channels = 1 if grey else 3
        if channels * size[0] * size[1] * len(members) > MOST_PREPARED_BYTES:
            raise Refused(
                "TooLarge",
                f"{len(members):,} images of {size[1]:,} x {size[0]:,} need more than "
                f"{MOST_PREPARED_BYTES // 1024**3} GiB when they are prepared. Set a smaller image_size, such as 224.",
            )
        items = ItemWriter(reading.tree, (channels, *size), "u1")
        for member in members:
            try:
                items.add(_pixels(_content(archive, member.entry), size, grey), member.label, member.split)
            except Unreadable as error:
                name = member.entry.filename
                reading.problems.add(member.row, f"Image {member.row:,} ({name}) can't be read: {error}.")
            reading.progress(member.row, len(members))
    notes = [f"Of another size, and resized to {size[1]} x {size[0]}: {different:,} images."] if different else []
    return Read("image", "images", items, {"value_range": [0, 255]}, notes)


def _members(files: list[zipfile.ZipInfo]) -> list[Member]:
    """Raises Refused where the folders are no classes."""
    images = [entry for entry in files if entry.filename.lower().endswith(SUFFIXES)]
    if not images:
        inside = f"such as {files[0].filename}" if files else "none at all"
        raise Refused(
            "NotADataset",
            f"The zip holds no images: {len(files):,} files, {inside}. Zip a folder with one folder of images "
            "(JPEG, PNG, WebP, BMP, GIF or TIFF) a class.",
        )
    paths = [PurePosixPath(entry.filename).parts for entry in images]
    depth = _split_depth(paths)
    members = []
    for row, (entry, parts) in enumerate(zip(images, paths, strict=True), 1):
        if len(parts) < (2 if depth is None else depth + 3):
            raise Refused(
                "NotADataset",
                f'"{entry.filename}" lies in no class folder. Put each image into a folder named after its class, '
                "such as cat/1.jpg.",
            )
        split = None if depth is None else SPLIT_FOLDERS[parts[depth].lower()]
        members.append(Member(row, entry, parts[-2], split))
    return members


def _split_depth(paths: list[tuple[str, ...]]) -> int | None:
    """How deep the train and test folders lie: on top, or below the one folder that all is in."""
    for depth in (0, 1):
        names = {parts[depth].lower() for parts in paths if len(parts) > depth + 2}
        splits = {SPLIT_FOLDERS[name] for name in names if name in SPLIT_FOLDERS}
        if splits == {TRAIN, HELD_OUT} and names <= SPLIT_FOLDERS.keys():
            return depth
        if len({parts[0] for parts in paths}) > 1:
            return None
    return None


def _most_common(
    archive: zipfile.ZipFile, members: list[Member], wanted: tuple[int, int] | None
) -> tuple[tuple[int, int], bool, int]:
    """(height, width) to use, whether all are grey, and how many have another size; from the images' headers."""
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for member in members:
        try:
            with archive.open(member.entry) as file, Image.open(file, formats=FORMATS) as image:
                sizes[(image.height, image.width)] += 1
                grey = grey and image.mode in GREY_MODES
        except (OSError, zipfile.BadZipFile, zlib.error, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # told as a problem when its pixels are read
    size = wanted or max(sizes, key=lambda size: (sizes[size], size), default=(1, 1))
    return size, grey, sizes.total() - sizes[size]


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > MOST_FILE_BYTES:
        raise Unreadable(f"it is larger than {MOST_FILE_BYTES // 1024**2} MiB")
    try:
        return archive.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Unreadable(f"the zip is damaged there ({error})") from error


def _pixels(content: bytes, size: tuple[int, int], grey: bool) -> NDArray[np.uint8]:
    """uint8 [channels, height, width]. Raises Unreadable."""
    kind = "file"
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            kind = image.format or kind
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"it has {image.width:,} x {image.height:,} pixels, more than 64 million")
            plain = _to_bytes(image, grey)
    except UnidentifiedImageError as error:
        raise Unreadable("it is no image of a known format" if content else "it is empty") from error
    except Image.DecompressionBombError as error:
        raise Unreadable("it has more pixels than any photo") from error
    except (OSError, ValueError, SyntaxError, IndexError, zlib.error) as error:
        cut = "truncated" in str(error) or isinstance(error, IndexError)
        raise Unreadable(f"the {kind} ends after {len(content):,} bytes" if cut else f"{kind}: {error}") from error
    if (plain.height, plain.width) != size:
        plain = plain.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    values = np.asarray(plain, np.uint8)
    return values[None] if grey else np.moveaxis(values, 2, 0)


def _to_bytes(image: Image.Image, grey: bool) -> Image.Image:
    """Grey or RGB with 8 bits a channel; what is transparent becomes white."""
    if image.mode in ("I;16", "I", "F"):
        values = np.asarray(image, np.float32)
        image = Image.fromarray((values / 256 if values.max(initial=0) > 255 else values).astype(np.uint8))
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        ground = Image.new("RGBA", coloured.size, "white")
        image = Image.alpha_composite(ground, coloured)
    return image.convert("L" if grey else "RGB")
