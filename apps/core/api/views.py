"""The base of every API view: who asks, in which workspace, by which rule; ids, ETags and idempotency."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.db import transaction
from django.db.models import Model, QuerySet
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action
from rest_framework.exceptions import MethodNotAllowed, ParseError
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.viewsets import GenericViewSet

from apps.accounts import audit
from apps.accounts.auth import Access, ApiKeyAuthentication, access_of, actor_of
from apps.accounts.models import Role, Workspace
from apps.core.actor import Actor
from apps.core.api import idempotency, problems
from apps.core.api.filters import StrictFilters
from apps.core.api.pagination import NewestFirst
from apps.core.api.schema import Schema
from apps.core.checks import find, visible
from apps.core.errors import FieldError, Problem
from apps.core.models import Goal, Managed
from apps.core.wants import want

IF_MATCH = re.compile(r'(?:W/)?"?([0-9]{1,18})(?:\.[0-9]+)?"?')
SIGNED_IN = "signed_in"
LARGEST_BODY_BYTES = 2 * 1024**2


class LimitedJSONParser(JSONParser):
    """Reads no more than a body of JSON may have here."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        length = int((parser_context or {})["request"].META.get("CONTENT_LENGTH") or 0)
        if length > LARGEST_BODY_BYTES:
            problem = Problem(f"The body has {length:,} bytes; at most {LARGEST_BODY_BYTES:,} are read here.")
            problem.status, problem.code = 413, "TooLarge"
            raise problem
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("The body is nested too deeply. Make it flatter.") from error


class PostsPerMinute(UserRateThrottle):
    """A loop gone wild should not fill the queue: what costs is started by POST."""

    rate = "600/min"

    def allow_request(self, request: Request, view: Any) -> bool:
        return request.method != "POST" or super().allow_request(request, view)


class Ruled(BasePermission):
    """Asks the view's rule for its action; an action without a rule is a mistake of ours, and refused."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if view.action in {None, "metadata"}:
            raise MethodNotAllowed(str(request.method))
        if not request.user or not request.user.is_authenticated:
            return False
        view.enter(request, view.rules[view.action])
        return True


class ApiView(GenericViewSet[Any]):
    """`rules`: the least role by action, or SIGNED_IN. Every action needs one (a test walks all routes)."""

    rules: ClassVar[Mapping[str, str]]
    authentication_classes = (ApiKeyAuthentication, SessionAuthentication)
    permission_classes = (Ruled,)
    parser_classes: Sequence[type[BaseParser]] = (LimitedJSONParser,)
    renderer_classes = (JSONRenderer,)
    pagination_class: type[NewestFirst] | None = NewestFirst
    filter_backends: Sequence[type[StrictFilters]] = (StrictFilters,)
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]
    throttle_classes = (PostsPerMinute,)
    outside_transaction: ClassVar[frozenset[str]] = frozenset()
    schema = Schema()
    actor: Actor
    post: Callable[..., Response]

    def enter(self, request: Request, rule: str) -> None:
        """The caller may use this view by its rule, else raise."""
        self.actor = actor_of(request)

    def get_exception_handler(self) -> Callable[..., Any]:
        return problems.handle

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "POST" and idempotency.HEADER in request.headers:
            # `dispatch` looks the handler up after this: the one it finds does the work once.
            handler = self.post
            self.post = lambda *inner, **named: idempotency.once(
                self, request, self.actor, lambda: handler(*inner, **named)
            )

    def body(self, serializer: type[Any], partial: bool = False) -> dict[str, Any]:
        """The checked body; raises a ValidationError that names every field."""
        checked = serializer(data=self.request.data, partial=partial, context=self.get_serializer_context())
        checked.is_valid(raise_exception=True)
        return dict(checked.validated_data)

    def answer(self, row: Any, status: int = 200) -> Response:
        headers = {"ETag": row.etag} if isinstance(row, Managed) else {}
        return Response(self.get_serializer(row).data, status=status, headers=headers)

    def paged(self, queryset: QuerySet[Any]) -> Response:
        page = self.paginate_queryset(queryset) or []
        return self.get_paginated_response(self.get_serializer(page, many=True).data)


class WorkspaceView(ApiView):
    """Everything below /workspaces/{workspace}/: rows of other workspaces do not exist here.

    `select`: relations that rendering a row needs, so that a list takes the same number of queries at any length.
    """

    model: ClassVar[type[Model]]
    select: ClassVar[Sequence[str]] = ()
    access: Access

    @property
    def workspace(self) -> Workspace:
        return self.access.workspace

    def enter(self, request: Request, rule: str) -> None:
        self.access = access_of(request, self.kwargs["workspace"])
        self.access.require(rule)
        self.actor = self.access.actor

    def get_queryset(self) -> QuerySet[Any]:
        if getattr(self, "swagger_fake_view", False):
            return self.model._default_manager.none()
        return visible(self.model, self.workspace).select_related(*self.select)

    def get_object(self) -> Any:
        return self.row(self.model, self.kwargs["id"], self.select)

    def row(self, model: type[Any], typed_id: str, select: Sequence[str] = ()) -> Any:
        """The row that the URL names. Raises Missing."""
        return find(model, self.workspace, typed_id, select)


class Listed:
    """Adds the list, filtered and by pages."""

    def list(self: Any, request: Request, workspace: str) -> Response:
        return self.paged(self.filter_queryset(self.get_queryset()))


class Retrieved:
    """Adds reading one, with its ETag."""

    def retrieve(self: Any, request: Request, workspace: str, id: str) -> Response:
        return self.answer(self.get_object())


READ_RULES = {"list": Role.VIEWER.value, "retrieve": Role.VIEWER.value}
WRITE_RULES = {**READ_RULES, "create": Role.DEVELOPER.value, "destroy": Role.DEVELOPER.value}
JOB_RULES = {**WRITE_RULES, "cancel": Role.DEVELOPER.value, "logs": Role.VIEWER.value}


class ManagedView(Listed, Retrieved, WorkspaceView):
    """A managed kind: what is asked of it are wants, that the row then follows."""

    def if_generation(self) -> int | None:
        """The generation that If-Match names, or None where the caller does not care."""
        given = self.request.headers.get("If-Match", "*").strip()
        if given == "*":
            return None
        match = IF_MATCH.fullmatch(given)
        if match is None:
            detail = "This If-Match is not an ETag of Windlass."
            fix = 'Send the ETag of the last GET, such as "3.17", or leave it out.'
            raise Problem(detail, code="IfMatchBad", errors=[FieldError("If-Match", detail, fix)])
        return int(match[1])

    def wanted(self, row: Managed, **changes: Any) -> Response:
        """Want something else of a row, and answer it as it is now."""
        changed = want(row, self.actor, if_generation=self.if_generation(), **changes)
        return self.answer(self.row(type(row), changed.typed_id, self.select), 202)


class Deletable:
    """Adds DELETE: it answers 202, and the row is gone once nothing of it is left anywhere."""

    def check_unused(self, row: Any) -> None:
        """Hold the row, and raise Conflict while others need it."""

    def destroy(self: Any, request: Request, workspace: str, id: str) -> Response:
        row = self.get_object()
        with transaction.atomic():
            self.check_unused(row)
            answer: Response = self.wanted(row, goal=Goal.DELETE)
            audit.record(self.actor, f"{row.kind}.delete", row.typed_id, workspace=self.workspace)
        return answer


class Cancellable:
    """Adds POST .../cancel: it ends as cancelled, and what it wrote is kept."""

    @action(detail=True, methods=["post"], filter_backends=(), pagination_class=None)
    def cancel(self: Any, request: Request, workspace: str, id: str) -> Response:
        answer: Response = self.wanted(self.get_object(), goal=Goal.STOP)
        return answer
