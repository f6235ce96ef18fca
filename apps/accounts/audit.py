"""The audit trail: one entry for every security-relevant act, never changed and never removed."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from apps.accounts.models import AuditEntry, Workspace
from apps.core.actor import Actor, request_id
from apps.core.middleware import client_address


def record(
    actor: Actor,
    action: str,
    target: str = "",
    detail: dict[str, Any] | None = None,
    workspace: Workspace | None = None,
) -> AuditEntry:
    """Append an entry, in the caller's transaction. `action`: "key.revoke"; `detail` never holds a secret."""
    return AuditEntry.objects.create(
        workspace=workspace,
        actor=actor.id,
        actor_name=actor.name,
        address=client_address.get(),
        request_id=request_id.get(),
        action=action,
        target=target,
        detail=detail or {},
    )


@receiver(user_logged_in)
def signed_in(sender: Any, user: Any, **kwargs: Any) -> None:
    record(user.actor, "session.sign_in", user.typed_id)


@receiver(user_logged_out)
def signed_out(sender: Any, user: Any, **kwargs: Any) -> None:
    if user is not None and user.is_authenticated:
        record(user.actor, "session.sign_out", user.typed_id)


@receiver(user_login_failed)
def sign_in_failed(sender: Any, credentials: dict[str, Any], **kwargs: Any) -> None:
    name = str(credentials.get("email") or credentials.get("username") or "")[:190]
    record(Actor("anonymous", name or "somebody"), "session.sign_in_failed", name)
