"""Carry a workload's inputs in and its outputs out, beside the program and outside its cage, on every target.

The grants say where the sealed parts are, with the data key of each blob. Inputs are verified (seal, SHA-256, size)
before the program can see them. Outputs are what the workload declares and nothing else; what a program left is never
trusted: no link is followed, and no file counts that has a second name.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apps.placements import foreign
from apps.placements.observation import Stored
from apps.placements.workload import Input, Output, Workload
from apps.registry import parts
from workers.targets.process.files import open_untrusted, write_whole
from workers.targets.process.limits import gibibytes

MAX_FILES = 200_000
FETCH_TIMEOUT_SECONDS = 60.0
ATTEMPTS = 4
# A network that is cut for minutes, or a control plane that is started anew, must not cost what a run has made.
PATIENCE_SECONDS, LONGEST_PAUSE_SECONDS = 600.0, 10.0


class CarryError(Exception):
    """`failure`: a CamelCase code; the message is for the person whose workload it is."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class Plain:
    """The plain content of a blob as a readable stream, part by part; what was read so far is summed."""

    def __init__(self, name: str, grant: dict[str, Any]) -> None:
        self._name, self._blob = name, str(grant["blob"])
        self._key = base64.b64decode(grant["data_key"])
        self._parts: Iterator[tuple[int, str]] = iter(enumerate(grant["parts"]))
        self._left = memoryview(b"")
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._left) < size:
            piece = next(self._parts, None)
            if piece is None:
                break
            number, place = piece
            try:
                plain = parts.unseal(self._key, self._blob, number, _fetch(place))
            except parts.Tampered as error:
                raise CarryError("InputDamaged", f"Input “{self._name}” is damaged in storage: {error}") from error
            self.sha256.update(plain)
            self.size_bytes += len(plain)
            self._left = memoryview(bytes(self._left) + plain if self._left else plain)
        size = len(self._left) if size < 0 else size
        taken, self._left = bytes(self._left[:size]), self._left[size:]
        return taken


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _fetch(place: str) -> bytes:
    """One sealed part, from a file or an address."""
    if _is_address(place):
        return _ask("Input", "a part of an input", place)
    try:
        return Path(place).read_bytes()
    except FileNotFoundError as error:
        raise CarryError(
            "InputMissing", f"A part of an input is not in storage: {place}. Upload its content again."
        ) from error


def _put(address: str, content: bytes) -> None:
    """Ask the control plane where a part of this size goes (to itself, or by a short-lived right to a store), and
    put it there."""
    noun = "a part of an output"
    from urllib.parse import urljoin

    told = json.loads(_ask("Output", noun, f"{address}?size_bytes={len(content)}", b""))["address"]
    told = urljoin(address, told)  # to itself by a path: it need not know as what it is reached from here
    if not _is_address(told):
        raise CarryError("OutputRefused", "The control plane named no address that an output could be put to.")
    _ask("Output", noun, told, content, "PUT")


def _ask(what: str, noun: str, address: str, content: bytes | None = None, method: str | None = None) -> bytes:
    """The answer to GET, or POST where there is `content`; what may pass by itself is tried again.

    `what`: "Input" or "Output", for the failure's code. `noun`: for its message; an address is a right and never told.
    """
    import http.client  # here: with all that it needs it would make each carry from this machine's files slower
    import urllib.error
    import urllib.request

    headers = {} if content is None else {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(address, content, headers, method=method)  # noqa: S310 - checked by the caller
    most = parts.PART_BYTES + parts.OVERHEAD_BYTES + 1
    patient_until = time.monotonic() + PATIENCE_SECONDS
    attempt = 0
    while True:
        try:
            with urllib.request.urlopen(request, timeout=FETCH_TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
                answered: bytes = answer.read(most)
                if len(answered) < min(most, int(answer.headers.get("Content-Length") or 0)):
                    raise ConnectionError("The connection ended in the middle of it.")
                return answered
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise CarryError(f"{what}Missing", _refusal(error.code, noun)) from error
            problem: Exception = error
        except (OSError, http.client.HTTPException) as error:
            problem = error
        attempt += 1
        if attempt >= ATTEMPTS and time.monotonic() > patient_until:
            words = f"Storage did not take or give {noun} in {PATIENCE_SECONDS / 60:.0f} minutes: {problem}"
            raise CarryError(f"{what}Unreachable", words)
        time.sleep(min(LONGEST_PAUSE_SECONDS, 0.2 * 2**attempt))


def _refusal(status: int, noun: str) -> str:
    words = f"Storage answered {status} for {noun}."
    return f"{words} The right to it may have ended: start it again." if status == 403 else words


def _carry_in(folder: Path, workload: Workload, grants: dict[str, Any]) -> dict[str, Stored]:
    """Each input appears at `in/<name>` by a rename, once its checksum was right. Raises CarryError, OSError."""
    for item in workload.inputs:
        grant = grants["inputs"].get(item.name)
        if grant is None:
            raise CarryError("InputNotGranted", f"There is no right to read input “{item.name}”.")
        target = folder / "in" / item.name
        arriving = folder / "in" / f".{item.name}.arriving"
        if target.exists():
            continue  # an earlier carry, which was killed, came this far
        remove(arriving)
        plain = Plain(item.name, grant)
        _unpack(item, plain, arriving) if item.shape == "tree" else _copy(plain, arriving)
        while plain.read(1024**2):
            continue  # padding behind a tar's end belongs to the content too
        if plain.sha256.hexdigest() != item.sha256 or plain.size_bytes != item.size_bytes:
            remove(arriving)
            raise CarryError("InputDamaged", f"Input “{item.name}” is not what was stored: its checksum differs.")
        os.rename(arriving, target)
    return {}


def _copy(plain: Plain, target: Path) -> None:
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        while data := plain.read(1024**2):
            file.write(data)


def _unpack(item: Input, plain: Plain, target: Path) -> None:
    """Regular files and folders, nothing else; since no link is ever made, no name can lead outside."""
    target.mkdir(mode=0o755)
    try:
        with tarfile.open(fileobj=plain, mode="r|") as archive:  # type: ignore[call-overload]  # has read
            for count, member in enumerate(archive):
                if count >= MAX_FILES:
                    raise CarryError("InputRefused", f"Input “{item.name}” holds more than {MAX_FILES} files.")
                place = target / _inner_path(item.name, member.name)
                place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                if member.isdir():
                    place.mkdir(mode=0o755, exist_ok=True)
                elif member.isreg():
                    source = archive.extractfile(member)
                    assert source
                    with open(place, "xb") as file:
                        shutil.copyfileobj(source, file)
                    place.chmod(0o644)
                else:
                    raise CarryError("InputRefused", f"Input “{item.name}” holds a link or a device: {member.name!r}.")
    except (tarfile.TarError, FileExistsError, NotADirectoryError) as error:
        raise CarryError("InputRefused", f"Input “{item.name}” can't be unpacked: {error}") from error


def _inner_path(name: str, path: str) -> str:
    pieces = [piece for piece in path.split("/") if piece not in ("", ".")]
    if path.startswith("/") or ".." in pieces or "\0" in path:
        raise CarryError("InputRefused", f"Input “{name}” holds a path that leads outside it: {path!r}.")
    return "/".join(pieces) or "."


class Sealing:
    """A writable stream that seals what it gets into a blob's parts, each written whole and to the disk."""

    def __init__(self, output: Output, grant: dict[str, Any]) -> None:
        self._output, self._blob = output, str(grant["blob"])
        self._key = base64.b64decode(grant["data_key"])
        self._place = str(grant["directory"])
        if not _is_address(self._place):
            Path(self._place).mkdir(parents=True, exist_ok=True)
        self._left = bytearray()
        self._number = 0
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def write(self, data: bytes) -> int:
        self._size_bytes += len(data)
        if self._size_bytes > self._output.max_bytes:
            raise CarryError(
                "OutputTooLarge",
                f"“{self._output.name}” can't be kept: it is larger than {gibibytes(self._output.max_bytes)}, the most "
                "that it may have. Write a smaller one.",
            )
        self._sha256.update(data)
        self._left += data
        while len(self._left) >= parts.PART_BYTES:
            self._store(bytes(self._left[: parts.PART_BYTES]))
            del self._left[: parts.PART_BYTES]
        return len(data)

    def _store(self, plain: bytes) -> None:
        sealed = parts.seal(self._key, self._blob, self._number, plain)
        if _is_address(self._place):
            _put(f"{self._place}/{self._number}", sealed)
        else:
            write_whole(Path(self._place) / str(self._number), sealed, durable=True)
        self._number += 1

    def finish(self) -> Stored:
        if self._left or self._number == 0:
            self._store(bytes(self._left))
        return Stored(self._sha256.hexdigest(), self._size_bytes)

    def abandon(self) -> None:
        """Nothing half-written stays; what went to an address goes when its blob is taken back."""
        if not _is_address(self._place):
            for number in range(self._number):
                (Path(self._place) / str(number)).unlink(missing_ok=True)


def _carry_out(folder: Path, workload: Workload, grants: dict[str, Any], which: str) -> dict[str, Stored]:
    """Raises CarryError for a required output that is missing or can't be taken, and OSError."""
    stored = {}
    for output in workload.outputs:
        if which == "always" and not output.always:
            continue
        if not os.path.lexists(folder / "out" / output.name):
            if output.required and which == "all":
                raise CarryError(
                    "OutputMissing",
                    f"The program ended well, but wrote no “{output.name}”. It belongs in WINDLASS_OUT.",
                )
            continue
        grant = grants["outputs"].get(output.name)
        if grant is None:
            raise CarryError("OutputNotGranted", f"There is no right to store output “{output.name}”.")
        stored[output.name] = _carry_one(folder / "out", output, grant)
    return stored


def _carry_one(out: Path, output: Output, grant: dict[str, Any]) -> Stored:
    sealing = Sealing(output, grant)
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if output.shape == "file":
            with os.fdopen(open_untrusted(output.name, folder), "rb") as file:
                while data := file.read(1024**2):
                    sealing.write(data)
        else:
            inner = os.open(output.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                with tarfile.open(fileobj=sealing, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
                    _pack(archive, inner, "", [0])
            finally:
                os.close(inner)
        return sealing.finish()
    except OSError as error:
        sealing.abandon()
        if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
            raise CarryError(
                "OutputRefused",
                _refused(output, str(error.filename or output.name)),
            ) from error
        raise
    except CarryError:
        sealing.abandon()
        raise
    finally:
        os.close(folder)


def _refused(output: Output, found: str) -> str:
    kind = "file" if output.shape == "file" else "folder"
    if found == output.name:
        return f"“{output.name}” can't be kept: it is no plain {kind}. Write the {kind} itself there, not a link."
    return f"“{output.name}” can't be kept: “{found}” in it is no plain file. Write the file itself there, not a link."


def _pack(archive: tarfile.TarFile, folder: int, prefix: str, count: list[int]) -> None:
    """The same files give the same bytes: sorted names, and no times, owners or modes."""
    for name in sorted(os.listdir(folder)):
        count[0] += 1
        if count[0] > MAX_FILES:
            raise CarryError("OutputRefused", f"An output holds more than {MAX_FILES} files.")
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
        member = tarfile.TarInfo(prefix + name)
        member.mode = 0o644
        if (seen.st_mode & 0o170000) == 0o040000:
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                _pack(archive, inner, f"{prefix}{name}/", count)
            finally:
                os.close(inner)
        else:
            with os.fdopen(open_untrusted(name, folder), "rb") as file:
                member.size = os.fstat(file.fileno()).st_size
                archive.addfile(member, file)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _storage_failed(way: str, error: OSError) -> str:
    what = "What it needs could not be fetched" if way == "in" else "What it left could not be stored"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: the disk is full. Nothing half-written was kept. Free some space, then start it again."
    return f"{what}: {error.strerror or error} ({error.filename}). Start it again; if that does not help, see the disk."


def carry(way: str, folder: Path, workload: Workload, grants: Path, which: str = "all") -> dict[str, Any]:
    """Carry "in" to `folder`/in or "out" of `folder`/out; `which`: "all" outputs, or those kept "always".

    Returns {"outputs": {name: {"sha256", "size_bytes"}}}, or {"failure", "message"} for whoever owns the workload.
    """
    try:
        rights = json.loads(grants.read_bytes())
        outputs = _carry_in(folder, workload, rights) if way == "in" else _carry_out(folder, workload, rights, which)
    except CarryError as error:
        return {"failure": error.failure, "message": foreign.plain(str(error))}  # it may name what the program named
    except OSError as error:
        return {"failure": "StorageFailed", "message": foreign.plain(_storage_failed(way, error))}
    return {"outputs": {name: stored.__dict__ for name, stored in outputs.items()}}
