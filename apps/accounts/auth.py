"""Who asks, and what they may do in a workspace: sessions and API keys come to the same `Access`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from apps.accounts.models import RANK, ApiKey, Membership, Role, User, Workspace
from apps.core import ids
from apps.core.actor import Actor
from apps.core.errors import Forbidden, Missing

KEY_START = "wl_"
USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Access:
    """What a caller may do in a workspace. `role` "" is a key for predictions only."""

    workspace: Workspace
    role: str
    actor: Actor

    def may(self, role: str) -> bool:
        return RANK.get(self.role, 0) >= RANK[role]

    def require(self, role: str) -> None:
        """Raises Forbidden, in words that say who could."""
        if self.may(role):
            return
        if not self.role:
            raise Forbidden("This key is for predictions only. Make one with a role for the API.", code="PredictOnly")
        needed, own = Role(role).label.lower(), Role(self.role).label.lower()
        raise Forbidden(f"This needs the role {needed}; yours in “{self.workspace}” is {own}. Ask an admin of it.")


@dataclass(frozen=True)
class KeyHolder:
    """Whoever sent an API key; stands where REST framework expects a user."""

    key: ApiKey
    is_authenticated: bool = True
    is_active: bool = True

    @property
    def pk(self) -> str:
        return self.key.typed_id

    @property
    def actor(self) -> Actor:
        return self.key.actor


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer wl_...`. A header that is there and no good is an error, never a fallback to a cookie."""

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="windlass"'

    def authenticate(self, request: Any) -> tuple[KeyHolder, ApiKey] | None:
        header = request.headers.get("Authorization", "")
        if not header:
            return None
        scheme, _, secret = header.partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret.startswith(KEY_START):
            raise AuthenticationFailed("The Authorization header must be “Bearer wl_…” with an API key of Windlass.")
        key = ApiKey.objects.select_related("workspace").filter(sha256=digest(secret)).first()
        if key is None:
            raise AuthenticationFailed(
                "This key is not known here. Check that all of it was copied, or make a new one."
            )
        now = timezone.now()
        if key.revoked_at:
            raise AuthenticationFailed(f"This key was revoked on {key.revoked_at:%-d %B %Y}. Make a new one.")
        if key.expires_at and key.expires_at <= now:
            raise AuthenticationFailed(
                f"This key ended on {key.expires_at:%-d %B %Y}. Make a new one; old and new can overlap."
            )
        if key.last_used_at is None or key.last_used_at < now - USED_EVERY:
            stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
            ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
        return KeyHolder(key), key


def digest(secret: str) -> str:
    """256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def actor_of(request: Any) -> Actor:
    actor: Actor = request.user.actor
    return actor


def is_staff(user: Any) -> bool:
    """Whether they, or whoever made their key, look after the whole installation and not only a workspace."""
    if not isinstance(user, KeyHolder):
        return bool(user.is_staff)
    try:
        maker = ids.parse(User.prefix, user.key.created_by.removeprefix("user:"))
    except ValueError:
        return False
    return User.objects.filter(pk=maker, is_staff=True, is_active=True).exists()


def require_staff(user: Any, what: str) -> None:
    """`what` belongs to the installation, and so to every workspace. Raises Forbidden."""
    if not is_staff(user):
        raise Forbidden(f"{what} belongs to all workspaces: only staff of the installation, or a key of theirs, may.")


def access_of(request: Any, slug: str) -> Access:
    """Raises Missing where the caller is no member: to them the workspace does not exist."""
    user = request.user
    if isinstance(user, KeyHolder):
        if user.key.workspace.slug == slug:
            return Access(user.key.workspace, user.key.role, user.actor)
    elif found := membership(user, slug):
        return Access(found.workspace, found.role, user.actor)
    raise Missing(f"There is no workspace “{slug[:60]}” that you are a member of.")


def membership(user: User, slug: str) -> Membership | None:
    if "\0" in slug:  # an address may hold what no database takes
        return None
    return Membership.objects.select_related("workspace").filter(user=user, workspace__slug=slug).first()
