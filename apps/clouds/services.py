"""What people want of cloud accounts, and what was seen there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts import audit
from apps.accounts.models import Workspace
from apps.clouds.models import CloudAccount
from apps.clouds.providers import PROVIDERS, credential_errors, provider_errors, region_errors
from apps.core.actor import Actor
from apps.core.checks import name_errors
from apps.core.errors import Conflict, FieldError, Invalid, invalid
from apps.core.figures import some_of
from apps.core.models import Goal
from apps.core.sealing import context_of, seal, seal_field
from apps.core.wants import Deleting, check_generation, create, model_of, wake, want


def create_account(
    workspace: Workspace, actor: Actor, *, name: str, provider: str, region: str, credentials: Mapping[str, Any]
) -> CloudAccount:
    """Let Windlass buy machines with these credentials; they are sealed at once, and a worker checks them.

    `credentials`: by name, as `apps.clouds.providers` lists them. Raises Invalid, Conflict (the name is taken).
    """
    errors = [*name_errors("name", name), *provider_errors(provider)]
    if service := PROVIDERS.get(provider):
        errors += [*region_errors(service, region), *credential_errors(service, credentials)]
    if errors:
        raise Invalid(*errors)
    account = CloudAccount(workspace=workspace, name=name, provider=provider, region=region)
    seal_field(account, "credentials", _as_bytes(credentials))
    try:
        with transaction.atomic():
            create(account, actor, message="Waits for a look at what these credentials may do.")
            detail = {"name": name, "provider": provider, "region": region}
            audit.record(actor, "cloud_account.create", account.typed_id, detail, workspace)
    except IntegrityError as error:
        fix = "Change its credentials instead, or choose another name."
        message = f"There is a cloud account “{name}” already. {fix}"
        raise Conflict(message, code="NameTaken", errors=[FieldError("name", "This name is taken.", fix)]) from error
    return account


def change_account(
    account: CloudAccount,
    actor: Actor,
    *,
    region: str | None = None,
    credentials: Mapping[str, Any] | None = None,
    if_generation: int | None = None,
) -> CloudAccount:
    """Give it other credentials or another region; it is checked anew.

    Raises Invalid, Outdated, Deleting, Conflict where clusters stand in the region that it has.
    """
    if region is None and credentials is None:
        raise invalid("", "There is nothing to change.", "Send credentials, region, or both.")
    service = PROVIDERS[account.provider]
    errors = [] if region is None else region_errors(service, region)
    errors += [] if credentials is None else credential_errors(service, credentials)
    if errors:
        raise Invalid(*errors)
    spec: dict[str, Any] = {}
    if credentials is not None:
        spec["credentials"] = seal(_as_bytes(credentials), context_of(account, "credentials"))
    with transaction.atomic():
        held = _held(account)
        if region is not None and region != held.region:
            _check_no_clusters(held, "have machines in its region. Make another account for the other region")
            spec["region"] = region
        changed = sorted(spec)
        # The words name the fields only: an event must not carry a sealed value either.
        row = want(held, actor, spec=spec, if_generation=if_generation, message=f"Changed: {', '.join(changed)}.")
        audit.record(actor, "cloud_account.change", row.typed_id, {"changed": changed}, row.workspace)
    return row


def check_account(account: CloudAccount, actor: Actor, if_generation: int | None = None) -> CloudAccount:
    """Have a worker ask the cloud now who these credentials are and what they may do. Raises Outdated, Deleting."""
    with transaction.atomic():
        held = _held(account)
        check_generation(held, if_generation)
        if held.goal == Goal.DELETE:
            raise Deleting(f"{held.typed_id} is being deleted.")
        wake(held.kind, [held.pk])
        audit.record(actor, "cloud_account.check", held.typed_id, {}, held.workspace)
    return held


def check_account_unused(account: CloudAccount) -> None:
    """Raises Conflict while a cluster stands on it. It is held until the caller's transaction ends."""
    _check_no_clusters(_held(account), "use it. Delete them first")


def hold_account(account: CloudAccount) -> CloudAccount:
    """The account as it is now; nobody can begin to delete it until the caller's transaction ends. Raises Conflict."""
    held = _held(account)
    if held.goal == Goal.DELETE:
        raise Conflict(f"The cloud account “{held.name}” is being deleted. Choose another one.", code="Deleting")
    return held


def strays(account: CloudAccount) -> list[dict[str, Any]]:
    """What carries our tags in the cloud and belongs to no row: kind, region, and what the look tells of each."""
    return [
        {"kind": sight.resource_kind, "region": sight.region, **stray}
        for sight in account.sights.all()
        for stray in sight.strays
    ]


def _held(account: CloudAccount) -> CloudAccount:
    return CloudAccount.objects.select_for_update(no_key=True).get(pk=account.pk)


def _check_no_clusters(account: CloudAccount, why: str) -> None:
    cluster: Any = model_of("cluster")
    names = list(
        cluster.objects.filter(account=account).exclude(phase="deleted").order_by("pk").values_list("name", flat=True)
    )
    if names:
        raise Conflict(f"Clusters {some_of([f'“{name}”' for name in names])} {why}.", code="InUse")


def _as_bytes(credentials: Mapping[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in credentials.items() if value}, sort_keys=True).encode()
