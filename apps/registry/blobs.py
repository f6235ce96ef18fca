"""Putting bytes into blobs and getting them back. All bytes go through here, sealed and checksummed."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from datetime import timedelta

from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import Workspace
from apps.core.figures import file_size
from apps.core.sealing import seal_field, unseal_field
from apps.registry import parts
from apps.registry.models import Blob, BlobGrave, BlobPart

UNREFERENCED_GRACE = timedelta(hours=24)


class WrongContent(Exception):
    """What arrived is not what was announced, or not all of it; words for the user."""


class StorageFull(Exception):
    """The store has no room; nothing half-written was kept."""


def storage() -> Storage:
    return storages["default"]


def data_key(blob: Blob) -> bytes:
    return unseal_field(blob, "data_key")


def _new(workspace: Workspace, **fields: object) -> Blob:
    blob = Blob(workspace=workspace, **fields)
    seal_field(blob, "data_key", parts.new_data_key())
    return blob


def begin(workspace: Workspace, sha256: str, size_bytes: int, media_type: str = "application/octet-stream") -> Blob:
    """The blob of this content: one that is there already, or one whose upload may begin or go on.

    Raises WrongContent, StorageFull.
    """
    if not Blob.objects.filter(workspace=workspace, sha256=sha256).exists():
        free = _free_bytes()
        if free is not None and size_bytes > free:
            raise _full(size_bytes, free)
    blob = _new(workspace, sha256=sha256, size_bytes=size_bytes, media_type=media_type)
    Blob.objects.bulk_create([blob], ignore_conflicts=True)
    found = Blob.objects.filter(workspace=workspace, sha256=sha256)
    if not found.update(touched_at=Now()):  # collected in between: its content will be sent again
        return begin(workspace, sha256, size_bytes, media_type)
    existing = found.get()
    if existing.size_bytes != size_bytes:
        raise WrongContent(
            f"Content with the checksum {sha256[:12]}… has {existing.size_bytes:,} bytes here, not {size_bytes:,}. "
            "Check the size you announce."
        )
    return existing


def missing_parts(blob: Blob) -> list[int]:
    if blob.state == Blob.State.READY:
        return []
    there = set(blob.parts.values_list("number", flat=True))
    return [number for number in range(parts.part_count(blob.size_bytes or 0)) if number not in there]


def expected_part_bytes(blob: Blob, number: int) -> int:
    """Raises WrongContent for a number that this blob does not have."""
    size = blob.size_bytes or 0
    if not 0 <= number < parts.part_count(size):
        raise WrongContent(f"This upload has parts 0 to {parts.part_count(size) - 1}; there is no part {number}.")
    return min(parts.PART_BYTES, size - number * parts.PART_BYTES)


def put_part(blob: Blob, number: int, plain: bytes) -> None:
    """Store one part of an upload. What arrived first stays; sending it again is fine, also at the same time.

    Raises WrongContent, StorageFull.
    """
    expected = expected_part_bytes(blob, number)
    if len(plain) != expected:
        raise WrongContent(f"Part {number} must have {expected:,} bytes; {len(plain):,} arrived. Send it again.")
    if blob.state == Blob.State.READY:
        return
    part = BlobPart.objects.filter(blob=blob, number=number)
    if not Blob.objects.filter(pk=blob.pk).update(touched_at=Now()):
        raise _gone()
    if part.exists():
        return
    name = parts.part_name(str(blob.pk), number)
    try:
        with transaction.atomic():  # the row first: whoever sends the same part meanwhile waits here, and then is done
            BlobPart.objects.create(blob=blob, number=number, size_bytes=len(plain))
            write_part(name, parts.seal(data_key(blob), str(blob.pk), number, plain))
    except IntegrityError as error:
        if not part.exists():  # the upload was thrown away while this part was written
            storage().delete(name)
            raise _gone() from error


def _gone() -> WrongContent:
    return WrongContent("This upload is there no more: it was thrown away, or lay untouched for a day. Begin it again.")


def write_part(name: str, content: bytes) -> None:
    """Put a sealed part into the store. Raises StorageFull."""
    store = storage()
    try:
        store.save(name, ContentFile(content))
    except OSError as error:
        store.delete(name)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"Storing {file_size(len(content))} failed: {error.strerror or error}. Nothing half-written was kept. "
                "See to the storage, then try again."
            ) from error
        raise _full(len(content), _free_bytes()) from error


def _free_bytes() -> int | None:
    """Of a store on this machine's disk; None for one elsewhere, which has no end that could be seen."""
    place = getattr(storage(), "location", None)
    try:
        return shutil.disk_usage(place).free if place else None
    except OSError:
        return None


def _full(size_bytes: int, free_bytes: int | None) -> StorageFull:
    room = "there is" if free_bytes is None else f"the {file_size(free_bytes)} free"
    return StorageFull(
        f"Storing {file_size(size_bytes)} needs more than {room}. Nothing half-written was kept. Free some space, or "
        "set an object store with WINDLASS_STORAGE, then try again."
    )


def complete(blob: Blob) -> Blob:
    """Check the whole content against its announced checksum, and make it ready. Raises WrongContent."""
    if blob.state == Blob.State.READY:
        return blob
    missing = missing_parts(blob)
    if missing:
        raise WrongContent(
            f"{len(missing)} parts are missing yet, the first is {missing[0]}. Send them, then try again."
        )
    digest = hashlib.sha256()
    try:
        for plain in _plain_parts(blob):
            digest.update(plain)
    except (parts.Tampered, FileNotFoundError) as error:
        abandon(blob)
        raise WrongContent(
            f"The upload was damaged in storage ({error}). Nothing of it was kept. Upload it again."
        ) from error
    if digest.hexdigest() != blob.sha256:
        abandon(blob)
        raise WrongContent(
            f"The upload arrived with checksum {digest.hexdigest()[:12]}…, you announced {(blob.sha256 or '')[:12]}…. "
            "Nothing was stored. Upload it again."
        )
    if not Blob.objects.filter(pk=blob.pk, sha256=blob.sha256).update(state=Blob.State.READY, touched_at=Now()):
        raise _gone()
    blob.refresh_from_db()
    return blob


def _plain_parts(blob: Blob, first: int = 0) -> Iterator[bytes]:
    key = data_key(blob)
    store = storage()
    for number in range(first, parts.part_count(blob.size_bytes or 0)):
        with store.open(parts.part_name(str(blob.pk), number)) as file:
            yield parts.unseal(key, str(blob.pk), number, file.read())


def read(blob: Blob, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The plain bytes from `start` up to and not including `end`, a part at a time."""
    size = blob.size_bytes or 0
    end = size if end is None else min(end, size)
    first = start // parts.PART_BYTES
    position = first * parts.PART_BYTES
    for plain in _plain_parts(blob, first):
        piece = plain[max(0, start - position) : max(0, end - position)]
        if piece:
            yield piece
        position += len(plain)
        if position >= end:
            return


def store_stream(
    workspace: Workspace,
    chunks: Iterable[bytes],
    media_type: str = "application/octet-stream",
    sha256: str | None = None,
) -> Blob:
    """Store content of unknown size as it comes, one part in memory at a time.

    `sha256`: what was announced; raises WrongContent if other content arrived. Raises StorageFull.
    """
    blob = new_output(workspace, media_type)
    key, digest, size, number = data_key(blob), hashlib.sha256(), 0, 0
    buffer = bytearray()

    def flush(last: bool) -> None:
        nonlocal number
        while len(buffer) >= parts.PART_BYTES or (last and (buffer or number == 0)):
            piece = bytes(buffer[: parts.PART_BYTES])
            del buffer[: parts.PART_BYTES]
            write_part(parts.part_name(str(blob.pk), number), parts.seal(key, str(blob.pk), number, piece))
            number += 1

    try:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            buffer += chunk
            flush(last=False)
        flush(last=True)
        if sha256 and digest.hexdigest() != sha256.lower():
            raise WrongContent(
                f"The upload arrived with checksum {digest.hexdigest()[:12]}…, you announced {sha256[:12]}…. "
                "Nothing was stored. Upload it again."
            )
    except BaseException:
        abandon(blob)
        raise
    stored = seal_output(blob, digest.hexdigest(), size)
    if stored.pk != blob.pk:  # the content was here already
        abandon(blob)
    return stored


def store_bytes(workspace: Workspace, content: bytes, media_type: str = "application/octet-stream") -> Blob:
    return store_stream(workspace, [content], media_type)


def new_output(workspace: Workspace, media_type: str = "application/octet-stream") -> Blob:
    """A blob whose content is yet to be made; the intent of writing it."""
    blob = _new(workspace, media_type=media_type)
    blob.save(force_insert=True)
    return blob


def seal_output(blob: Blob, sha256: str, size_bytes: int) -> Blob:
    """Content is complete under `blob`: make it ready, or return the ready blob that has this content already."""
    ready = {"sha256": sha256, "size_bytes": size_bytes, "state": Blob.State.READY, "touched_at": Now()}
    twins = Blob.objects.filter(workspace_id=blob.workspace_id, sha256=sha256).exclude(pk=blob.pk)
    while True:  # each turn something else may have come or gone in between
        try:
            with transaction.atomic():
                # Somebody announced this content and has not sent all of it: ours is whole, so it takes the name.
                twins.filter(state=Blob.State.UPLOADING).update(sha256=None)
                Blob.objects.filter(pk=blob.pk).update(**ready)
            blob.refresh_from_db()
            return blob
        except IntegrityError:
            if twins.filter(state=Blob.State.READY).update(touched_at=Now()) and (twin := twins.first()):
                return twin


def abandon(blob: Blob) -> None:
    """Take back an upload that nothing refers to."""
    buried = _bury(Blob.objects.filter(pk=blob.pk).exclude(state=Blob.State.READY))
    if buried and getattr(storage(), "within_reach", True):  # a host elsewhere leaves the grave for that job
        _empty(BlobGrave.objects.filter(pk=blob.pk))  # the others wait for the job that has the time


def _bury(candidates: object) -> int:
    """Move unreferenced blobs to graves, one transaction each; a reference made meanwhile keeps its blob."""
    buried = 0
    for pk in list(candidates.values_list("pk", flat=True)):  # type: ignore[attr-defined]
        try:
            with transaction.atomic():
                if candidates.filter(pk=pk).select_for_update().exists():  # type: ignore[attr-defined]
                    BlobGrave.objects.get_or_create(blob_id=pk)
                    candidates.filter(pk=pk).delete()  # type: ignore[attr-defined]
                    buried += 1
        except IntegrityError:  # ProtectedError too: it is referred to
            continue
    return buried


def empty_graves() -> int:
    """Remove from storage what graves name; a crash in between leaves the grave, and the next call goes on."""
    return _empty(BlobGrave.objects.all()[:500])


def _empty(graves: Iterable[BlobGrave]) -> int:
    store = storage()
    emptied = 0
    for grave in graves:
        folder = f"blobs/{grave.blob_id}"
        try:
            _folders, names = store.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        for name in names:
            store.delete(f"{folder}/{name}")
        if names or store.exists(folder):
            store.delete(folder)
        grave.delete()
        emptied += 1
    return emptied


def collect() -> tuple[int, int]:
    """Bury what nothing refers to and nobody touched for a day; returns (buried, emptied)."""
    old = Blob.objects.filter(touched_at__lt=timezone.now() - UNREFERENCED_GRACE)
    return _bury(old), empty_graves()
