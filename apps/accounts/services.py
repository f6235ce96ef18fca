"""Workspaces, members, API keys, secrets and sign-in links. Each act is audited in its own transaction."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.utils import timezone

from apps.accounts import audit
from apps.accounts.auth import KEY_START, digest
from apps.accounts.models import RANK, ApiKey, Membership, Role, Secret, SignInLink, User, Workspace
from apps.core.actor import SCHEDULE, WINDLASS, Actor
from apps.core.checks import name_errors, range_errors, visible
from apps.core.errors import Conflict, FieldError, Invalid, Missing, invalid
from apps.core.sealing import seal_field
from apps.core.wants import model_of, wake

LINK_VALID = timedelta(hours=24)
LARGEST_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True)
class NewKey:
    """`secret` is here once, and nowhere afterwards."""

    key: ApiKey
    secret: str


@dataclass(frozen=True)
class NewMember:
    """`link_token`: signs a user in who has no password yet; "" where there was such a user already."""

    membership: Membership
    link_token: str


# --- workspaces and members ---------------------------------------------------------------------------------------


def create_workspace(actor: Actor, *, slug: str, name: str, admin: User) -> Workspace:
    """Raises Invalid, Conflict for a slug that is taken."""
    if errors := name_errors("slug", slug):
        raise Invalid(*errors)
    try:
        with transaction.atomic():
            workspace = Workspace.objects.create(slug=slug, name=name or slug)
            Membership.objects.create(user=admin, workspace=workspace, role=Role.ADMIN)
            audit.record(actor, "workspace.create", workspace.typed_id, {"slug": slug}, workspace)
    except IntegrityError as error:
        raise Conflict(f"There is a workspace “{slug}” already. Choose another name.", code="NameTaken") from error
    return workspace


def add_member(workspace: Workspace, actor: Actor, *, email: str, role: str) -> NewMember:
    """Let somebody in; who has no account yet gets one, and a link that signs in once. Raises Invalid, Conflict."""
    errors = _role_errors(role)
    try:
        validate_email(email)
    except ValidationError:
        errors.append(FieldError("email", f"“{email[:80]}” is no e-mail address.", "“ada@example.org” would be one."))
    if errors:
        raise Invalid(*errors)
    email = email.lower()
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        user = User.objects.filter(email=email).first()
        token = ""
        if user is None:
            user = User.objects.create_user(email)
            token = make_link(user)
        if Membership.objects.filter(user=user, workspace=workspace).exists():
            raise Conflict(f"{email} is a member already. Change the role instead.", code="AlreadyMember")
        membership = Membership.objects.create(user=user, workspace=workspace, role=role)
        audit.record(actor, "member.add", user.typed_id, {"email": email, "role": role}, workspace)
    return NewMember(membership, token)


def set_role(membership: Membership, actor: Actor, role: str) -> Membership:
    """Raises Invalid, Conflict where a workspace would be left without an admin."""
    if errors := _role_errors(role):
        raise Invalid(*errors)
    with transaction.atomic():
        membership = _locked(membership)
        if role != Role.ADMIN:
            _check_admin_stays(membership)
        before, membership.role = membership.role, role
        membership.save(update_fields=["role"])
        detail = {"before": before, "role": role}
        audit.record(actor, "member.role", membership.user.typed_id, detail, membership.workspace)
    return membership


def remove_member(membership: Membership, actor: Actor) -> None:
    """Raises Conflict for the last admin."""
    with transaction.atomic():
        membership = _locked(membership)
        _check_admin_stays(membership)
        audit.record(actor, "member.remove", membership.user.typed_id, {}, membership.workspace)
        membership.delete()


def new_link(membership: Membership, actor: Actor) -> str:
    """A token that signs a member in once, for who set no password and has no way back.

    Raises Conflict for everybody else: who could sign in as somebody that another workspace, or the whole
    installation, trusts would be more than an admin of this workspace.
    """
    with transaction.atomic():
        membership = _locked(membership)
        user = membership.user
        if user.has_usable_password():
            detail = f"{user.email} has a password. Whoever runs Windlass can set a new one, see the operations guide."
            raise Conflict(detail, code="HasPassword")
        if user.is_staff or Membership.objects.filter(user=user).exclude(workspace=membership.workspace).exists():
            detail = f"{user.email} is at home elsewhere too. Whoever runs Windlass can set a password for them."
            raise Conflict(detail, code="NotYours")
        audit.record(actor, "member.link", user.typed_id, {"email": user.email}, membership.workspace)
        return make_link(user)


def _locked(membership: Membership) -> Membership:
    """Of a workspace's members one change at a time, so that two admins can't remove each other."""
    Workspace.objects.select_for_update(no_key=True).get(pk=membership.workspace_id)
    found = Membership.objects.select_related("user", "workspace").filter(pk=membership.pk).first()
    if found is None:
        raise Missing("They are no member any more.")
    return found


def _check_admin_stays(membership: Membership) -> None:
    admins = Membership.objects.filter(workspace_id=membership.workspace_id, role=Role.ADMIN)
    if not admins.exclude(pk=membership.pk).exists():
        raise Conflict("This is the only admin of the workspace. Make somebody else admin first.", code="LastAdmin")


def _role_errors(role: str, field: str = "role") -> list[FieldError]:
    if role in RANK:
        return []
    return [FieldError(field, f"“{role[:40]}” is no role.", f"Use one of: {', '.join(RANK)}.")]


# --- sign-in links ------------------------------------------------------------------------------------------------


def make_link(user: User) -> str:
    """A token that signs this user in once, within 24 hours; stored as its hash only."""
    token = secrets.token_urlsafe(32)
    SignInLink.objects.create(sha256=digest(token), user=user, expires_at=timezone.now() + LINK_VALID)
    return token


def link_user(token: str) -> User | None:
    """Whom a link would sign in, without using it."""
    found = SignInLink.objects.select_related("user").filter(sha256=digest(token), used_at=None)
    link = found.filter(expires_at__gt=timezone.now(), user__is_active=True).first()
    return link.user if link else None


def use_link(token: str) -> User:
    """Use a link up. Raises Missing for one that was used, has ended, or never was."""
    # Conditions on the link's own columns only: with a join, Postgres would not check them again for the slower ones.
    fresh = SignInLink.objects.filter(sha256=digest(token), used_at=None, expires_at__gt=timezone.now())
    with transaction.atomic():
        used = fresh.update(used_at=Now())
        user = User.objects.filter(pk__in=SignInLink.objects.filter(sha256=digest(token)).values("user")).first()
        if not used or user is None or not user.is_active:
            raise Missing("This link was used already, or has ended. Ask an admin for a new one.", code="LinkUsed")
        audit.record(user.actor, "link.use", user.typed_id)
    return user


# --- API keys -----------------------------------------------------------------------------------------------------


def create_api_key(
    workspace: Workspace,
    actor: Actor,
    *,
    name: str,
    role: str = "",
    may_predict: bool = True,
    deployments: list[str] | None = None,
    requests_per_minute: int | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """`deployments`: ids of those that it may ask, empty for all of the workspace. Raises Invalid."""
    errors = [*_role_errors(role)] if role else []
    if not name.strip() or len(name) > 80:
        errors.append(FieldError("name", "A key needs a name of 1 to 80 characters.", "“notebook” would work."))
    if not role and not may_predict:
        errors.append(FieldError("role", "This key could do nothing.", "Give it a role, or let it predict."))
    if expires_at and expires_at <= timezone.now():
        errors.append(FieldError("expires_at", "This time has passed.", "Choose a later one, or none."))
    if requests_per_minute is not None:
        errors += range_errors("requests_per_minute", requests_per_minute, 1, 1_000_000)
    errors += _deployment_errors(workspace, deployments or [])
    if errors:
        raise Invalid(*errors)
    secret = KEY_START + secrets.token_urlsafe(32)
    with transaction.atomic():
        key = ApiKey.objects.create(
            workspace=workspace,
            name=name.strip(),
            hint=f"{secret[:7]}…{secret[-4:]}",
            sha256=digest(secret),
            role=role,
            may_predict=may_predict,
            deployments=deployments or [],
            requests_per_minute=requests_per_minute,
            expires_at=expires_at,
            created_by=actor.id,
        )
        audit.record(actor, "key.make", key.typed_id, {"name": key.name, "role": role}, workspace)
        publish_keys()
    return NewKey(key, secret)


def _deployment_errors(workspace: Workspace, wanted: list[str]) -> list[FieldError]:
    if not wanted:
        return []
    there = {row.typed_id for row in visible(model_of("deployment"), workspace)}
    fix = "List the deployments first, or leave this empty for all."
    return [
        FieldError("deployments", f"There is no deployment “{typed_id[:60]}” in this workspace.", fix)
        for typed_id in wanted
        if typed_id not in there
    ]


def revoke_api_key(key: ApiKey, actor: Actor) -> ApiKey:
    """It stops working in the API at once, and at replicas as soon as each host has published the list of keys."""
    with transaction.atomic():
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now()):
            audit.record(actor, "key.revoke", key.typed_id, {"name": key.name}, key.workspace)
            publish_keys()
    key.refresh_from_db()
    return key


def revoke_keys_of(user: User, actor: Actor) -> None:
    """Those that this user made, and those that these keys made."""
    makers = [user.actor.id]
    while makers:
        keys = list(ApiKey.objects.filter(created_by__in=makers).select_related("workspace"))
        for key in keys:
            revoke_api_key(key, actor)
        makers = [key.actor.id for key in keys]


@receiver(post_save, sender=User)
def _disabled(sender: Any, instance: User, **_: Any) -> None:
    """Whoever is disabled, wherever that is done, loses their keys together with their sessions."""
    if not instance.is_active:
        revoke_keys_of(instance, WINDLASS)


def publish_keys() -> None:
    """Have every place give its replicas the list of keys now, rather than at its next beat."""
    wake("place", list(model_of("place")._default_manager.values_list("pk", flat=True)))


def expire_keys() -> int:
    """Mark keys whose time has come (they are refused already), and forget links that can't be used any more."""
    now = timezone.now()
    with transaction.atomic():
        ended = ApiKey.objects.select_for_update(skip_locked=True).filter(revoked_at=None, expires_at__lte=now)
        found = list(ended.select_related("workspace"))
        for key in found:
            audit.record(SCHEDULE, "key.expire", key.typed_id, {"name": key.name}, key.workspace)
        ApiKey.objects.filter(pk__in=[key.pk for key in found]).update(revoked_at=Now())
        if found:
            publish_keys()
        SignInLink.objects.filter(Q(expires_at__lt=now - LINK_VALID) | Q(used_at__lt=now - LINK_VALID)).delete()
    return len(found)


# --- secrets ------------------------------------------------------------------------------------------------------


def set_secret(workspace: Workspace, actor: Actor, *, name: str, value: str) -> Secret:
    """Make a secret, or give it another value. Workloads that start later get the new one. Raises Invalid."""
    errors: list[FieldError] = name_errors("name", name)
    if len(name) > 60:
        errors.append(FieldError("name", "A secret's name has at most 60 characters.", "Use a shorter one."))
    if not value:
        errors.append(FieldError("value", "The value is empty.", "Send what programs are to find in the file."))
    if len(value.encode()) > LARGEST_SECRET_BYTES:
        detail = f"The value has more than {LARGEST_SECRET_BYTES:,} bytes."
        errors.append(FieldError("value", detail, "Upload large files as a blob."))
    if errors:
        raise Invalid(*errors)
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        secret = Secret.objects.filter(workspace=workspace, name=name).first() or Secret(workspace=workspace, name=name)
        seal_field(secret, "sealed", value.encode())
        secret.updated_at = timezone.now()
        secret.save()
        audit.record(actor, "secret.set", secret.typed_id, {"name": name}, workspace)
    return secret


def remove_secret(secret: Secret, actor: Actor) -> None:
    """Workloads that run keep what they were given. Raises Conflict while something that may start yet needs it."""
    runs: Any = visible(model_of("training_run"), secret.workspace)
    waiting = [run for run in runs.filter(secrets__contains=[secret.name]) if not run.is_final]
    if waiting:
        raise Conflict(f"{waiting[0].label} needs “{secret.name}”. Cancel it, or wait for its end.", code="InUse")
    with transaction.atomic():
        audit.record(actor, "secret.remove", secret.typed_id, {"name": secret.name}, secret.workspace)
        secret.delete()


def check_secrets(workspace: Workspace, names: list[str], field: str = "secrets") -> None:
    """Raises Invalid unless all of these are there."""
    there = set(Secret.objects.filter(workspace=workspace, name__in=names).values_list("name", flat=True))
    for name in names:
        if name not in there:
            raise invalid(field, f"There is no secret “{name[:60]}” in this workspace.", "Add it first.")
