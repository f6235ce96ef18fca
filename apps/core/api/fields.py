"""Serializer fields and bases that every app's API uses: typed ids out, strict bodies in."""

from __future__ import annotations

import difflib
import uuid
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.core import ids
from apps.core.models import Managed


@extend_schema_field(OpenApiTypes.STR)
class TypedId(serializers.Field[uuid.UUID, str, str, Any]):
    """A row's id, or that of a row it refers to, with the prefix of its kind."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)
        self.prefix = prefix

    def to_representation(self, value: uuid.UUID) -> str:
        return ids.typed(self.prefix, value)


@extend_schema_field({"type": "object", "additionalProperties": {}})
class AnyObject(serializers.JSONField):
    """A JSON object of any content."""

    default_error_messages = {
        "not_a_dict": "This must be an object.",
        "too_deep": "It is nested too deeply.",
        "no_text": "It holds a NUL or half a character, which no text may hold.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            self.fail("not_a_dict")
        try:
            if not _can_be_kept(data):
                self.fail("no_text")
        except RecursionError:
            self.fail("too_deep")
        return super().to_internal_value(data)


def _can_be_kept(value: Any) -> bool:
    """Whether PostgreSQL takes all texts in it."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return all(_can_be_kept(name) and _can_be_kept(item) for name, item in value.items())
    return all(map(_can_be_kept, value)) if isinstance(value, list) else True


class Input(serializers.Serializer[Any]):
    """A body; what it does not know is an error, never silently ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [str(name) for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {name: serializers.ErrorDetail(self._unknown(name), code="told") for name in unknown}
                )
        return super().to_internal_value(data)

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.fields, 1)
        return f"There is no field “{name[:60]}”. " + (
            f"Did you mean “{near[0]}”?" if near else f"There are: {', '.join(self.fields)}."
        )


MANAGED_FIELDS = (
    "id",
    "phase",
    "word",
    "reason",
    "message",
    "progress",
    "goal",
    "ending",
    "generation",
    "version",
    "created_at",
    "created_by",
    "phase_since",
    "quarantined",
)


class ManagedSerializer(serializers.ModelSerializer[Any]):
    """What every managed row shows. `word` is the phase for people, `message` what goes on and what can be done."""

    id = serializers.CharField(source="typed_id", read_only=True)
    word = serializers.CharField(source="current_phase.word", read_only=True)
    quarantined = serializers.BooleanField(read_only=True)

    class Meta:
        model = Managed
        fields = MANAGED_FIELDS
