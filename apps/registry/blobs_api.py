"""Blobs: bytes up in parts that can be sent again, or in one stream; and down, by range."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import Role
from apps.core.api.fields import Input
from apps.core.api.streams import body_pieces, content
from apps.core.api.views import LimitedJSONParser, Retrieved, WorkspaceView
from apps.core.errors import Conflict, FieldError, Problem, invalid
from apps.registry import blobs
from apps.registry.models import Blob
from apps.registry.parts import PART_BYTES

SHA256 = re.compile(r"[0-9a-f]{64}")
MEDIA_TYPE = re.compile(r"[\w.+-]{1,50}/[\w.+-]{1,49}")
CHECKSUM_HEADER = "X-Content-SHA256"
LARGEST_BLOB_BYTES = 5 * 1024**4


class BlobSerializer(serializers.ModelSerializer[Blob]):
    id = serializers.CharField(source="typed_id", read_only=True)
    part_size_bytes = serializers.SerializerMethodField()
    missing_parts = serializers.SerializerMethodField(help_text="Parts yet to be sent; the first is 0.")

    class Meta:
        model = Blob
        fields = (
            "id",
            "sha256",
            "size_bytes",
            "media_type",
            "state",
            "part_size_bytes",
            "missing_parts",
            "created_at",
        )

    def get_part_size_bytes(self, row: Blob) -> int:
        return PART_BYTES

    def get_missing_parts(self, row: Blob) -> list[int]:
        return blobs.missing_parts(row) if row.sha256 else []


class BlobInput(Input):
    sha256 = serializers.RegexField(r"^[0-9a-fA-F]{64}$", help_text="Of the whole content, in hexadecimal.")
    size_bytes = serializers.IntegerField(min_value=0, max_value=LARGEST_BLOB_BYTES)
    media_type = serializers.RegexField(MEDIA_TYPE.pattern, max_length=100, required=False)


class RawParser(BaseParser):
    """Takes any media type and reads nothing: the view reads the body in pieces."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return None


RAW_BODY = {"application/octet-stream": OpenApiTypes.BINARY}


class BlobView(Retrieved, WorkspaceView):
    """Content, by its checksum: what is here already needs no second upload."""

    model = Blob
    serializer_class = BlobSerializer
    rules: ClassVar = {
        "retrieve": Role.VIEWER.value,
        "create": Role.DEVELOPER.value,
        "store": Role.DEVELOPER.value,
        "part": Role.DEVELOPER.value,
        "complete": Role.DEVELOPER.value,
        "content": Role.VIEWER.value,
    }
    parser_classes = (LimitedJSONParser, RawParser)
    outside_transaction: ClassVar = frozenset({"complete"})

    @extend_schema(request=BlobInput, responses={200: BlobSerializer, 201: BlobSerializer})
    def create(self, request: Request, workspace: str) -> Response:
        """Begin an upload, or learn that the content is here (200) or which parts are missing (201)."""
        given = self.body(BlobInput)
        given["sha256"] = given["sha256"].lower()
        blob = blobs.begin(self.workspace, **given)
        return self.answer(blob, 200 if blob.state == Blob.State.READY else 201)

    @extend_schema(
        request=RAW_BODY,
        responses={201: BlobSerializer},
        parameters=[OpenApiParameter(CHECKSUM_HEADER, str, OpenApiParameter.HEADER)],
    )
    def store(self, request: Request, workspace: str) -> Response:
        """Upload content of any size in one request, as a raw body."""
        announced = request.headers.get(CHECKSUM_HEADER, "").lower()
        if announced and not SHA256.fullmatch(announced):
            raise invalid(CHECKSUM_HEADER, "This is no SHA-256.", "Send 64 hexadecimal digits, or leave it out.")
        media_type = (request.content_type or "").partition(";")[0].strip()
        if not MEDIA_TYPE.fullmatch(media_type):
            media_type = "application/octet-stream"
        return self.answer(blobs.store_stream(self.workspace, body_pieces(request), media_type, announced or None), 201)

    @extend_schema(request=RAW_BODY, responses={200: BlobSerializer}, filters=False)
    @action(detail=True, methods=["put"], url_path="parts/<int:number>")
    def part(self, request: Request, workspace: str, id: str, number: int) -> Response:
        """Send one part as a raw body; sending it again is fine."""
        blob = self.announced(id)
        expected = blobs.expected_part_bytes(blob, number)
        plain = bytearray()
        for piece in body_pieces(request):
            plain += piece
            if len(plain) > expected:
                detail = f"Part {number} has {expected:,} bytes; more arrived."
                problem = Problem(detail, code="TooLarge", errors=[FieldError("", detail, "Check the part's size.")])
                problem.status = 413
                raise problem
        blobs.put_part(blob, number, bytes(plain))
        return self.answer(blob)

    @extend_schema(request=None, responses={200: BlobSerializer}, filters=False)
    @action(detail=True, methods=["post"])
    def complete(self, request: Request, workspace: str, id: str) -> Response:
        """Have the whole checked against its checksum."""
        return self.answer(blobs.complete(self.announced(id)))

    def announced(self, typed_id: str) -> Blob:
        """Raises Conflict for a blob that a workload is writing."""
        blob: Blob = self.row(Blob, typed_id)
        if blob.sha256 is None:
            raise Conflict(f"{blob.typed_id} is being written by a workload.", code="NotReady")
        return blob

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}, filters=False)
    @action(detail=True)
    def content(self, request: Request, workspace: str, id: str) -> HttpResponseBase:
        """The bytes, or a range of them."""
        blob = self.row(Blob, id)
        return blob_content(request, blob, blob.typed_id)


def blob_content(request: Request, blob: Blob, filename: str) -> HttpResponseBase:
    """Raises Conflict for a blob that is not complete."""
    if blob.state != Blob.State.READY:
        raise Conflict(f"{blob.typed_id} is not complete. Send what is missing first.", code="NotReady")
    return content(
        request,
        blob.size_bytes or 0,
        lambda start, end: blobs.read(blob, start, end),
        etag=f'"{blob.sha256}"',
        media_type="application/octet-stream",
        filename=filename,
    )
