"""What a file is by its content: its name proves nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path

from workers.inspection.program import Refused

BEGINNINGS = {
    b"PAR1": "parquet",
    b"\x93NUMPY": "npy",
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"GGUF": "gguf",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"%PDF": "pdf",
    b"\xff\xd8\xff": "image",
    b"\x89PNG\r\n\x1a\n": "image",
    b"GIF8": "image",
    b"\xff\xfe": "utf16",
    b"\xfe\xff": "utf16",
}
ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")
SAMPLE_BYTES = 64 * 1024
MOST_SAFETENSORS_HEADER_BYTES = 100_000_000


def format_of(path: Path) -> str:
    """One of: npz, zip, parquet, csv, jsonlines, safetensors, and many that are recognised only to say why they are
    refused (pickle, torch, keras, xlsx, ...). "unknown" is a file of none of these, "empty" one of no bytes.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE_BYTES)
        file.seek(max(0, path.stat().st_size - 1))
        last = file.read(1)
    if not start:
        return "empty"
    if start.startswith(ZIP_BEGINNINGS):
        return _format_of_zip(path)
    for beginning, name in BEGINNINGS.items():
        if start.startswith(beginning):
            return name
    if start[4:8] == b"TFL3":
        return "tflite"
    if start[257:262] == b"ustar":
        return "tar"
    if _is_safetensors(start, path.stat().st_size):
        return "safetensors"
    if start[0] == 0x80 and 2 <= start[1] <= 5:
        return "pickle"
    found = _format_of_text(start)
    # Pickles of protocol 1 begin with an opcode that builds something, and end with the one that stops.
    return "pickle" if found == "unknown" and start[:1] in b"}](" and last == b"." else found


def _is_safetensors(start: bytes, size_bytes: int) -> bool:
    header_bytes = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and header_bytes <= min(size_bytes - 8, MOST_SAFETENSORS_HEADER_BYTES)


def _format_of_text(start: bytes) -> str:
    if any(byte < 9 or 13 < byte < 32 for byte in start):
        return "unknown"
    if start.startswith((b"(dp0", b"(lp0", b"ccopy_reg", b"cnumpy", b"c__main__", b"(i")):
        return "pickle"  # protocol 0 is text
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return "jsonlines"
    return "json" if text.startswith(b"[") else "csv"


def _format_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise Refused(
            "DamagedFile", f"The zip can't be opened ({error}): it is damaged or was cut short. Upload it again."
        ) from error
    last = {name.rsplit("/", 1)[-1] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if "archive_format" in last or "serialized_exported_program.json" in last:
        return "pt2"
    if "data.pkl" in last:
        return "torch"
    if {"config.json", "metadata.json"} <= last and any(name.endswith(".h5") for name in last):
        return "keras"
    if "saved_model.pb" in last:
        return "savedmodel"
    if "[Content_Types].xml" in last:
        return "office"
    return "zip"


def pickle_message(filename: str, save_as: str) -> str:
    return f"`{filename}` is a Python pickle, and opening one can run code. {save_as}"
