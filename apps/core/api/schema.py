"""The OpenAPI document: what every operation has in common is added here, so that views say only their own."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers


class FieldProblemSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="Dotted inside objects; empty where the whole is meant.")
    detail = serializers.CharField()
    fix = serializers.CharField(help_text="What to do, with a value that would work.")


class ProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457: what happened, why, and what to do."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    code = serializers.CharField(help_text="A CamelCase word that stays the same between versions.")
    request_id = serializers.CharField()
    errors = FieldProblemSerializer(many=True)  # type: ignore[assignment]


class Schema(AutoSchema):
    """Adds problem responses, Idempotency-Key and If-Match."""

    view: Any

    def get_override_parameters(self) -> list[Any]:
        extra = []
        if self.method == "POST":
            text = "The same key does the work once, and answers the same, for 24 hours."
            extra.append(OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description=text))
        if self._changes_managed():
            text = "The ETag that was read: refused with 412 if the row's generation is another by now."
            extra.append(OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description=text))
        return extra

    def get_request_serializer(self) -> Any:
        return None if getattr(self.view, "action", "") == "cancel" else super().get_request_serializer()

    def get_response_serializers(self) -> Any:
        serializers_ = super().get_response_serializers()
        if getattr(self.view, "action", "") == "cancel" or (self._changes_managed() and self.method == "DELETE"):
            return {202: self.view.get_serializer_class()}
        return serializers_

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation = super().get_operation(*args, **kwargs)
        if operation:
            answer = self._get_response_for_code(
                OpenApiResponse(ProblemSerializer, "What went wrong, as problem+json."),
                "default",
                ["application/problem+json"],
            )
            operation["responses"].setdefault("default", answer)
            operation["responses"] = {code: operation["responses"][code] for code in sorted(operation["responses"])}
        return operation

    def get_operation_id(self) -> str:
        name = self.view.action or self.method_mapping[self.method.lower()]
        return f"{self.get_tags()[0]}_{name}".replace("-", "_")

    def get_tags(self) -> list[str]:
        return [self.view.basename or self.view.__class__.__name__.removesuffix("View").lower()]

    def _changes_managed(self) -> bool:
        from apps.core.models import Managed

        model = getattr(self.view, "model", None)
        managed = isinstance(model, type) and issubclass(model, Managed)
        return managed and self.method != "GET" and getattr(self.view, "action", "") != "create"


class KeyScheme(OpenApiAuthenticationExtension):
    target_class = "apps.accounts.auth.ApiKeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer wl_…`."}
