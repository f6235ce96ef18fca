"""Bytes up and down: in parts that can be sent again, in one stream, by range; and nothing half-written stays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Workspace
from apps.registry import blobs, parts
from apps.registry.models import Blob
from tests.api.conftest import Caller
from tests.api.rows import blob, model_version

pytestmark = pytest.mark.django_db
RAW = "application/octet-stream"


def downloaded(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def put(caller: Caller, path: str, content: bytes, **headers: str) -> Any:
    return caller("PUT", path, content, Content_Type=RAW, **headers)


def test_an_upload_goes_on_where_it_stopped(developer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 10)
    content = b"abcdefghijKLMNOPQRST12345"
    announced = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    begun = developer.post("blobs", announced).json()
    assert begun["missing_parts"] == [0, 1, 2]
    path = f"blobs/{begun['id']}"
    put(developer, f"{path}/parts/2", content[20:])
    put(developer, f"{path}/parts/0", content[:10])
    again = developer.post("blobs", announced).json()
    assert (again["id"], again["missing_parts"], again["state"]) == (begun["id"], [1], "uploading")
    early = developer.post(f"{path}/complete")
    assert early.status_code == 422 and "the first is 1" in early.json()["detail"]
    assert developer.get(f"{path}/content").status_code == 409
    put(developer, f"{path}/parts/1", content[10:20])
    assert developer.post(f"{path}/complete").json()["state"] == "ready"
    assert downloaded(developer.get(f"{path}/content")) == content
    known = developer.post("blobs", announced)
    assert (known.status_code, known.json()["missing_parts"]) == (200, [])


def test_a_part_of_the_wrong_size_is_refused(developer: Caller) -> None:
    begun = developer.post("blobs", {"sha256": "0" * 64, "size_bytes": 5}).json()
    assert put(developer, f"blobs/{begun['id']}/parts/0", b"1234").json()["code"] == "WrongContent"
    assert put(developer, f"blobs/{begun['id']}/parts/0", b"123456").status_code == 413
    assert put(developer, f"blobs/{begun['id']}/parts/7", b"1").status_code == 422


def test_other_content_than_announced_is_thrown_away(developer: Caller, tmp_path: Path) -> None:
    begun = developer.post("blobs", {"sha256": "0" * 64, "size_bytes": 5}).json()
    put(developer, f"blobs/{begun['id']}/parts/0", b"12345")
    refused = developer.post(f"blobs/{begun['id']}/complete")
    assert refused.status_code == 422 and "you announced 000000000000" in refused.json()["detail"]
    assert not Blob.objects.exists()
    assert not [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]


def test_one_stream_of_any_size(developer: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 1000)
    content = bytes(range(256)) * 20
    stored = put(developer, "blobs", content, X_Content_SHA256=hashlib.sha256(content).hexdigest())
    assert stored.status_code == 201, stored.json()
    answer = stored.json()
    assert (answer["state"], answer["size_bytes"]) == ("ready", len(content))
    assert downloaded(developer.get(f"blobs/{answer['id']}/content")) == content
    assert put(developer, "blobs", content).json()["id"] == answer["id"]
    assert put(developer, "blobs", content, X_Content_SHA256="0" * 64).status_code == 422
    assert put(developer, "blobs", content, X_Content_SHA256="rubbish").status_code == 422
    assert Blob.objects.count() == 1


@pytest.mark.parametrize(
    ("header", "expected", "span"),
    [
        ("bytes=0-9", b"0123456789", "bytes 0-9/100"),
        ("bytes=95-", b"56789", "bytes 95-99/100"),
        ("bytes=-3", b"789", "bytes 97-99/100"),
        ("bytes=98-1000", b"89", "bytes 98-99/100"),
    ],
)
def test_a_range_is_answered_alone(
    developer: Caller, workspace: Workspace, header: str, expected: bytes, span: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 7)
    row = blob(workspace, b"0123456789" * 10)
    answer = developer.get(f"blobs/{row.typed_id}/content", Range=header)
    assert (answer.status_code, downloaded(answer), answer.headers["Content-Range"]) == (206, expected, span)
    assert answer.headers["Content-Length"] == str(len(expected))


def test_ranges_that_can_not_be(developer: Caller, workspace: Workspace) -> None:
    path = f"blobs/{blob(workspace, b'0123456789').typed_id}/content"
    assert developer.get(path, Range="bytes=10-").status_code == 416
    assert developer.get(path, Range="lines=1-2").status_code == 200
    assert developer.get(path, Range="bytes=0-1", If_Range='"other"').status_code == 200
    head = developer("HEAD", path)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "10", b"")


def test_what_users_stored_is_never_shown_as_a_page(developer: Caller, workspace: Workspace) -> None:
    answer = developer.get(f"blobs/{blob(workspace, b'<script>').typed_id}/content")
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Type"] == "application/octet-stream"


def test_the_files_of_a_model_version(developer: Caller, workspace: Workspace) -> None:
    version = model_version(workspace)
    (file,) = developer.get(f"model-versions/{version.typed_id}/files").json()
    assert (file["name"], file["size_bytes"]) == ("reference.onnx", 4)
    answer = developer.get(f"model-versions/{version.typed_id}/files/reference.onnx")
    assert downloaded(answer) == b"onnx"
    assert 'filename="digits-v1-reference.onnx"' in answer.headers["Content-Disposition"]
    assert developer.get(f"model-versions/{version.typed_id}/files/secrets").status_code == 404


def test_a_full_disk_keeps_nothing_and_says_so(
    developer: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(blobs.storage()), "_save", full)
    answer = put(developer, "blobs", b"content")
    assert (answer.status_code, answer.json()["code"]) == (507, "StorageFull")
    assert "Nothing half-written was kept" in answer.json()["detail"]
    assert not Blob.objects.exists()
    monkeypatch.undo()
    assert put(developer, "blobs", b"content").status_code == 201


def test_a_viewer_reads_and_does_not_write(viewer: Caller, workspace: Workspace) -> None:
    row = blob(workspace, b"content")
    assert downloaded(viewer.get(f"blobs/{row.typed_id}/content")) == b"content"
    assert put(viewer, "blobs", b"x").status_code == 403
    assert viewer.post("blobs", {"sha256": "0" * 64, "size_bytes": 1}).status_code == 403


def test_a_refused_completion_leaves_nothing_with_an_idempotency_key_too(developer: Caller) -> None:
    announced = {"sha256": "0" * 64, "size_bytes": 5}
    begun = developer.post("blobs", announced).json()
    put(developer, f"blobs/{begun['id']}/parts/0", b"12345")
    for _ in range(2):
        refused = developer.post(f"blobs/{begun['id']}/complete", Idempotency_Key="k1")
        assert refused.status_code == 422
    assert not Blob.objects.exists()
    assert developer.post("blobs", announced).json()["missing_parts"] == [0]
