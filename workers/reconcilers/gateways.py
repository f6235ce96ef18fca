"""A gateway: its whole configuration from the rows on every beat, and what Envoy has taken of it back into the row."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.core import ids
from apps.core.phases import DELETED
from apps.core.wants import wake
from apps.deployments.models import Deployment, Gateway
from apps.placements.models import Placement
from apps.placements.observation import Observed
from workers.crashpoints import point
from workers.engine import Context, Outcome, Reconciler, Retry
from workers.gateway.admin import GatewayStopped, GatewayUnreachable
from workers.gateway.applied import applied
from workers.gateway.model import Backend, Configuration, Endpoint, Route
from workers.gateway.write import write

BEAT_SECONDS = 5.0
WAITING_SECONDS = 0.5


def rendering(row: Gateway, context: Context) -> Outcome:
    """Write what the rows say; then tell each deployment which of its lists is in force."""
    deployments = list(Deployment.objects.exclude(phase=DELETED).select_related("workspace").order_by("pk"))
    known = {item.typed_id for item in deployments}
    configuration = Configuration(tuple(routes(deployments)))
    directory = settings.WINDLASS_GATEWAY_DIRECTORY
    socket = settings.WINDLASS_GATEWAY_ADMIN_SOCKET
    context.check()
    point("gateway.write.before")
    try:
        write(directory, configuration, socket)
        point("gateway.write.answered")
        seen = applied(directory, socket)
        versions, errors = seen.versions, seen.errors
    except GatewayStopped:
        # No request goes anywhere now, and Envoy will start with what is written: that is as good as applied.
        versions, errors = {route.known_as: route.version for route in configuration.routes}, ()
    except GatewayUnreachable as error:
        words = f"The gateway does not answer: {error}. It goes on with what it has."
        raise Retry("GatewayUnreachable", words) from error
    taken = {name: version for name, version in versions.items() if name in known}
    changed = [
        ids.parse(Deployment.prefix, name) for name, version in taken.items() if row.applied.get(name) != version
    ]
    behind = any(taken.get(item.typed_id, -1) < item.listing_version for item in deployments)

    def tell() -> None:
        wake("deployment", changed)

    return Outcome(
        phase="refused" if errors else "rendering",
        reason="Refused" if errors else "Rendered",
        message="; ".join(errors) or f"{len(deployments)} deployments are known to the gateway.",
        after=WAITING_SECONDS if behind else BEAT_SECONDS,
        fields={"applied": taken} if taken != row.applied else {},
        locks=[("deployment", changed)] if changed else [],
        also=tell if changed else None,
    )


def routes(deployments: list[Deployment]) -> list[Route]:
    """One route a deployment; its backends are the listed replicas that are ready."""
    listed = {UUID(item["placement"]) for row in deployments for item in row.listing}
    found = Placement.objects.filter(pk__in=listed).select_related("place")
    ready = {item.pk: ready_endpoints(item) for item in found}
    ours = {one for item in found if item.place.host_id for one in ready[item.pk].values()}
    for item in found:
        if not item.place.host_id:  # what a cluster says of addresses must not take one from a host of ours
            ready[item.pk] = {ordinal: one for ordinal, one in ready[item.pk].items() if one not in ours}
    return [
        Route(
            workspace=row.workspace.slug,
            deployment=row.name,
            version=max(1, row.listing_version),
            backends=tuple(_backend(item, ready.get(UUID(item["placement"]), {})) for item in row.listing),
            identity=row.typed_id,
        )
        for row in deployments
    ]


def ready_endpoints(placement: Placement) -> dict[int, Endpoint]:
    """By ordinal. An address that is none (a cluster's own word) is left out, so that it costs only whose it is."""
    found = {}
    for rank in Observed.from_json(placement.observed).ranks if placement.observed else ():
        # Both: the place may have seen already that it is not, or that another pod has this ordinal now.
        if rank.ordinal in placement.ready_ordinals and rank.state == "ready" and rank.port:
            with suppress(ValueError):
                found[rank.ordinal] = Endpoint(rank.address, rank.port)
    return found


def _backend(item: dict[str, Any], ready: dict[int, Endpoint]) -> Backend:
    return Backend(
        name=f"r{item['revision']}-{item['placement'].replace('-', '')}",
        weight=item["weight"],
        endpoints=tuple(ready[ordinal] for ordinal in item["ordinals"] if ordinal in ready),
        replicas=len(item["ordinals"]),
    )


RECONCILER = Reconciler("gateway", {"rendering": rendering, "refused": rendering, "cleaning": rendering})
