"""Two who upload the same content at once, and what goes while it is sent: what is ready is never other content."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import Workspace
from apps.registry import blobs, parts
from apps.registry.models import Blob, BlobPart

pytestmark = pytest.mark.django_db(transaction=True)
CONTENT = b"abcdefghij"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def begun(workspace: Workspace) -> Blob:
    return blobs.begin(workspace, SHA256, len(CONTENT))


def kept(blob: Blob) -> bytes:
    return b"".join(blobs.read(blob))


def test_what_comes_late_changes_nothing(workspace: Workspace) -> None:
    early, late = begun(workspace), begun(workspace)
    blobs.put_part(early, 0, CONTENT)
    ready = blobs.complete(early)
    blobs.put_part(late, 0, b"XXXXXXXXXX")  # it was read before the upload was complete
    assert kept(ready) == CONTENT


def test_a_part_that_finds_no_room_leaves_the_one_that_is_there(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = begun(workspace)
    blobs.put_part(blob, 0, CONTENT)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(blobs.storage()), "_save", full)
    blobs.put_part(blob, 0, CONTENT)
    monkeypatch.undo()
    assert kept(blobs.complete(blob)) == CONTENT


def test_two_who_send_one_part_at_once_write_it_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = begun(workspace)
    writes: list[str] = []
    inside, go_on = threading.Event(), threading.Event()
    real = blobs.write_part

    def slow(name: str, content: bytes) -> None:
        writes.append(name)
        inside.set()
        assert go_on.wait(10)
        real(name, content)

    monkeypatch.setattr(blobs, "write_part", slow)
    threads = [threading.Thread(target=_put, args=(blob,)) for _ in range(2)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(writes) == 1
    assert kept(blobs.complete(blob)) == CONTENT


def _put(blob: Blob) -> None:
    try:
        blobs.put_part(blob, 0, CONTENT)
    finally:
        connection.close()


def test_an_upload_that_was_thrown_away_says_so(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = begun(workspace)
    real = blobs.write_part

    def thrown_away_meanwhile(name: str, content: bytes) -> None:
        real(name, content)
        other = threading.Thread(target=_abandon, args=(blob,))
        other.start()
        other.join(10)

    monkeypatch.setattr(blobs, "write_part", thrown_away_meanwhile)
    with pytest.raises(blobs.WrongContent, match="Begin it again"):
        blobs.put_part(blob, 0, CONTENT)
    assert not blobs.storage().exists(parts.part_name(str(blob.pk), 0))
    with pytest.raises(blobs.WrongContent, match="Begin it again"):
        blobs.put_part(blob, 0, CONTENT)


def _abandon(blob: Blob) -> None:
    try:
        blobs.abandon(blob)
    finally:
        connection.close()


def test_a_part_that_was_damaged_in_storage_can_be_sent_anew(workspace: Workspace) -> None:
    blob = begun(workspace)
    blobs.put_part(blob, 0, CONTENT)
    with blobs.storage().open(parts.part_name(str(blob.pk), 0), "r+b") as file:
        file.write(b"zz")
    with pytest.raises(blobs.WrongContent, match="damaged"):
        blobs.complete(blob)
    again = begun(workspace)
    assert again.pk != blob.pk
    blobs.put_part(again, 0, CONTENT)
    assert kept(blobs.complete(again)) == CONTENT


def test_whole_content_takes_the_name_of_half_an_upload(workspace: Workspace) -> None:
    half = begun(workspace)
    whole = blobs.store_bytes(workspace, CONTENT)
    assert (whole.sha256, kept(whole)) == (SHA256, CONTENT)
    with pytest.raises(blobs.WrongContent):
        blobs.put_part(half, 0, CONTENT)
        blobs.complete(half)
    assert Blob.objects.get(sha256=SHA256).pk == whole.pk
    assert BlobPart.objects.filter(blob=whole).count() == 0


def test_content_whose_twin_is_collected_meanwhile(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its twin was there when the name was taken, and is gone when it is asked for."""
    twin = blobs.store_bytes(workspace, CONTENT)
    real: Any = blobs.new_output

    def collected(workspace: Workspace, media_type: str) -> Blob:
        made: Blob = real(workspace, media_type)
        Blob.objects.filter(pk=twin.pk).update(touched_at=twin.created_at - 2 * blobs.UNREFERENCED_GRACE)
        assert blobs.collect()[0] == 1
        return made

    monkeypatch.setattr(blobs, "new_output", collected)
    stored = blobs.store_bytes(workspace, CONTENT)
    assert (stored.sha256, kept(stored)) == (SHA256, CONTENT)
