"""Cloud accounts, sights and offers in the console."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from apps.clouds.models import CloudAccount, CloudSight, Offer
from apps.clouds.services import check_account_unused
from apps.core.admin.base import ConsoleAdmin
from apps.core.admin.managed import ManagedAdmin
from apps.core.admin.operations import delete
from apps.core.figures import memory, rate


@admin.register(CloudAccount)
class CloudAccountAdmin(ManagedAdmin):
    """Its credentials are no more shown than opened."""

    more = (delete(check_account_unused),)
    hidden = (*ManagedAdmin.hidden, "credentials")
    extra_filters = ("provider", "region")


@admin.register(CloudSight)
class CloudSightAdmin(ManagedAdmin):
    """It belongs to its account: it is neither cancelled nor deleted by itself."""

    extra_filters = ("resource_kind",)
    search_ids = {"acc": "account"}


@admin.register(Offer)
class OfferAdmin(ConsoleAdmin):
    list_display = ("machine_type", "provider", "region", "cpus", "memory", "gpus", "price", "as_of")
    list_filter = ("provider", "region")
    search_fields = ("machine_type",)

    @display(description="memory", ordering="memory_bytes")
    def memory(self, offer: Offer) -> str:
        return memory(offer.memory_bytes)

    @display(description="price", ordering="price_usd_per_hour")
    def price(self, offer: Offer) -> str:
        return rate(offer.price_usd_per_hour)
