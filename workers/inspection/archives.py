"""Which members of an uploaded zip may be read at all."""

from __future__ import annotations

import stat
import zipfile
from pathlib import PurePosixPath

from workers.inspection.program import Refused

MOST_ENTRIES = 100_000
MOST_UNPACKED_BYTES = 32 * 1024**3
MOST_RATIO = 200
RATIO_FREE_BYTES = 1024**2
IGNORED_NAMES = ("Thumbs.db", "desktop.ini")


def _refuse(message: str) -> Refused:
    return Refused("UnsafeArchive", f"{message} Nothing was unpacked.")


def safe_files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in the archive by name, without folders and what file managers leave behind.

    Raises Refused for too many entries, paths that leave the archive, links and bombs. Sizes are those that the zip
    declares; zipfile gives no byte more than that.
    """
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise _refuse(f"The zip has {len(entries):,} entries; the most is {MOST_ENTRIES:,}. Split it into several.")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MOST_UNPACKED_BYTES:
        raise _refuse(f"The zip unpacks to {unpacked:,} bytes; the most is {MOST_UNPACKED_BYTES:,}.")
    for entry in entries:
        _check(entry)
    files = [entry for entry in entries if not entry.is_dir() and not _is_ignored(PurePosixPath(entry.filename))]
    return sorted(files, key=lambda entry: entry.filename)


def _check(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts[:1] and path.parts[0].endswith(":")):
        raise _refuse(f'The zip has an entry "{name}" that points outside of it. Zip the folder itself.')
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise _refuse(f'The zip has a link, "{name}". Put the file itself there (zip without -y).')
    if entry.flag_bits & 0x1:
        raise _refuse(f'"{name}" is encrypted. Zip it without a password.')
    if entry.file_size > RATIO_FREE_BYTES and entry.file_size > MOST_RATIO * max(1, entry.compress_size):
        ratio = entry.file_size // max(1, entry.compress_size)
        raise _refuse(f'"{name}" grows {ratio:,} times when it is unpacked, as only a zip bomb does.')


def _is_ignored(path: PurePosixPath) -> bool:
    return path.name in IGNORED_NAMES or any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
