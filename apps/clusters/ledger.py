"""What a cluster's resources have cost so far: each line's price times the hours since it was intended."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.utils import timezone

from apps.clusters.models import CloudResource

HOURS_A_MONTH = 730


def cost_usd(resource: CloudResource, now: datetime | None = None) -> float:
    """US dollars of one line, from its intent until it was gone, or until `now`.

    From the intent on, since nobody knows better when the cloud began to charge: it is never too little.
    """
    until = resource.gone_at or now or timezone.now()
    hours = max(0.0, (until - resource.intended_at).total_seconds()) / 3600
    return resource.price_usd_per_hour * hours


def total_usd(resources: Iterable[CloudResource], now: datetime | None = None) -> float:
    """Of several lines at one moment."""
    now = now or timezone.now()
    return sum(cost_usd(resource, now) for resource in resources)
