"""What the reconcilers of accounts, sights and clusters share: opening an account, its patience, and scaled times."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import DateTimeField, ExpressionWrapper, Value
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from apps.clouds.models import CloudAccount, CloudSight
from apps.core.actor import WINDLASS
from apps.core.installation import installation_name
from apps.core.sealing import CannotUnseal, unseal_field
from apps.core.wants import create
from workers.engine import Retry
from workers.providers import provider
from workers.providers.contract import Account, Throttled

PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 5.0, 900.0


def scaled(seconds: float) -> float:
    return seconds * settings.WINDLASS_TIME_SCALE


def opened(account: CloudAccount, region: str) -> Account:
    """Raises Retry where its credentials can't be opened."""
    try:
        credentials = json.loads(unseal_field(account, "credentials"))
    except CannotUnseal as error:
        raise Retry("CannotUnseal", f"The credentials of {account.name} can't be opened. {error}") from error
    return Account(credentials, region, installation_name())


def check_patience(account: CloudAccount) -> None:
    """Raises Retry while the cloud asked this account for patience; other accounts go on."""
    if account.throttled_until and (left := (account.throttled_until - timezone.now()).total_seconds()) > 0:
        words = f"The cloud asks the account {account.name} for patience. Nothing is lost, it goes on by itself."
        raise Retry("Throttled", words, after=left)


def be_patient(account: CloudAccount, throttled: Throttled) -> Retry:
    """Nothing of this account is called before the cloud's own time, or a few seconds."""
    after = min(throttled.after if throttled.after is not None else scaled(PATIENCE_SECONDS), LONGEST_PATIENCE_SECONDS)
    until: Any = ExpressionWrapper(Now() + Value(timedelta(seconds=after)), output_field=DateTimeField())
    CloudAccount.objects.filter(pk=account.pk).update(throttled_until=Greatest("throttled_until", until))
    return Retry("Throttled", f"{throttled}. Nothing is lost, it goes on by itself.", after=after)


def ensure_sights(account: CloudAccount, region: str) -> None:
    """One for each kind of resource that the service has. Call it within a transaction."""
    there = set(account.sights.filter(region=region).values_list("resource_kind", flat=True))
    for kind in provider(account.provider).kinds:
        if kind not in there:
            sight = CloudSight(workspace_id=account.workspace_id, account=account, region=region, resource_kind=kind)
            create(sight, WINDLASS, message="Looks at it now and then.")
