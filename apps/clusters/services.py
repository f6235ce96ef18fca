"""What people want of hosts, and of clusters: bought from a cloud account, or there already."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.accounts import audit
from apps.accounts.models import Workspace
from apps.clouds.models import CloudAccount, Offer
from apps.clouds.providers import PROVIDERS
from apps.clouds.services import hold_account
from apps.clusters import networks
from apps.clusters.kubeconfig import check_kubeconfig
from apps.clusters.models import Cluster, Host
from apps.core.actor import Actor
from apps.core.checks import name_errors, range_errors
from apps.core.errors import Conflict, FieldError, Invalid
from apps.core.figures import rate, some_of
from apps.core.models import Goal
from apps.core.sealing import context_of, seal, seal_field
from apps.core.wants import Deleting, check_generation, create, want
from apps.placements.models import Place
from apps.placements.places import owners_at
from apps.placements.services import close_place, wake_owners

BROUGHT = "kubeconfig"
MACHINE_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
MOST_MACHINES = 100
SMALLEST_DISK_GIB, LARGEST_DISK_GIB = 20, 16_384
NOT_PLANNED = {
    "planning": "Its plan is not made yet: wait until its phase is planned, and read the plan.",
    "cleaning": "It is being taken back.",
}


# --- hosts --------------------------------------------------------------------------------------------------------


def set_draining(host: Host, actor: Actor, draining: bool, workspace: Workspace | None = None) -> Host:
    """A draining host starts nothing new; what runs there goes on to its end."""
    if host.draining != draining:
        Host.objects.filter(pk=host.pk).update(draining=draining)
        action = "host.drain" if draining else "host.undrain"
        audit.record(actor, action, host.typed_id, {"name": host.name}, workspace)
        host.draining = draining
    return host


def declare_dead(host: Host, actor: Actor, workspace: Workspace | None = None) -> Host:
    """Say that a lost host never comes back: what stood there is taken for gone, and what it held is free.

    Were it alive after all, its work would run twice. Raises Conflict for a host that is not lost.
    """
    with transaction.atomic():
        held = Host.objects.select_for_update(no_key=True).get(pk=host.pk)
        if held.declared_dead_at:
            return held
        if held.lost_at is None:
            detail = f"“{held.name}” reports: only a host that is lost can be declared dead. Drain it instead."
            raise Conflict(detail, code="NotLost")
        held.declared_dead_at = timezone.now()
        held.save(update_fields=["declared_dead_at"])
        audit.record(actor, "host.declare_dead", held.typed_id, {"name": held.name}, workspace)
        wake_owners([held.pk])
        if place := Place.objects.filter(host=held).first():
            close_place(place)
    return held


def forget_host(host: Host, actor: Actor, workspace: Workspace | None = None) -> None:
    """Remove a dead host; its name is free again, and what stood there keeps telling of it.

    Raises Conflict unless it was declared dead and all that stood there is settled.
    """
    with transaction.atomic():
        held = Host.objects.select_for_update(no_key=True).get(pk=host.pk)
        if held.declared_dead_at is None:
            detail = (
                f"“{held.name}” was not declared dead. Drain it, stop its worker, and declare it dead once it is lost."
            )
            raise Conflict(detail, code="NotDead")
        place = Place.objects.select_for_update(no_key=True).filter(host=held).first()
        if place and (names := owners_at(place)):
            raise Conflict(f"Not all that stood on “{held.name}” is settled yet: {some_of(names)}.", code="InUse")
        if gateway := held.gateways.first():
            raise Conflict(f"“{held.name}” keeps the gateway “{gateway.name}”, whose row needs it.", code="InUse")
        if place:
            Place.objects.filter(pk=place.pk).update(host=None, former_name=held.name)
        audit.record(actor, "host.forget", held.typed_id, {"name": held.name}, workspace)
        held.delete()


# --- clusters -----------------------------------------------------------------------------------------------------


def buy_cluster(
    workspace: Workspace,
    actor: Actor,
    *,
    name: str,
    account: CloudAccount,
    machine_type: str,
    machines: int = 1,
    disk_gib: int = 40,
    network: Mapping[str, Any] | None = None,
    allowed_cidrs: Sequence[Any] = (),
    allow_anyone: bool = False,
    approve: bool = False,
) -> Cluster:
    """Want a cluster of machines bought. It is planned first, and nothing is bought before the plan is approved.

    `account` is of `workspace`; `network`: {"cidr"}, {"vpc_id"} or nothing for the usual range; `allowed_cidrs`: who
    may reach it from outside, nobody if empty; `approve`: buy what the plan says without asking again.
    Raises Invalid, Conflict (the name is taken, the account can't be used).
    """
    service = PROVIDERS[account.provider]
    wanted_network, network_errors = networks.network(network or {}, service)
    allowed, allowed_errors = networks.allowed_ranges(allowed_cidrs, allow_anyone)
    errors = [
        *name_errors("name", name),
        *_machine_errors(account, machine_type),
        *range_errors("machines", machines, 1, MOST_MACHINES),
        *range_errors("disk_gib", disk_gib, SMALLEST_DISK_GIB, LARGEST_DISK_GIB, "GiB"),
        *network_errors,
        *allowed_errors,
    ]
    if errors:
        raise Invalid(*errors)
    cluster = Cluster(
        workspace=workspace,
        name=name,
        provider=account.provider,
        machine_type=machine_type,
        machines=machines,
        disk_gib=disk_gib,
        network=wanted_network,
        allowed_cidrs=allowed,
        approved=approve,
        reach="nodes",  # its pods' own addresses end at its network's edge
    )
    with transaction.atomic():
        held = hold_account(account)
        if held.phase == "refused":
            detail = f"The cloud account “{held.name}” can't be used yet. {held.message}".rstrip()
            raise Conflict(f"{detail} Its findings say what to do.", code="AccountRefused")
        cluster.account, cluster.region = held, held.region
        detail_kept = {"machine_type": machine_type, "machines": machines, "approved": approve}
        return _created(cluster, actor, "Waits for its plan.", {"account": held.typed_id, **detail_kept})


def bring_cluster(
    workspace: Workspace, actor: Actor, *, name: str, kubeconfig: str, namespace: str = "windlass", reach: str = "pods"
) -> Cluster:
    """Use a Kubernetes that is there, within one namespace of it; nothing is bought.

    `reach`: where the gateway finds replicas, "pods" (their own addresses, in a network that it shares) or "nodes" (a
    port of the machine). Raises Invalid, Conflict where the name is taken.
    """
    errors = [*name_errors("name", name), *_kubeconfig_errors(kubeconfig)]
    if not NAMESPACE.fullmatch(namespace):
        detail = f"“{namespace[:63]}” is no name of a namespace: use lower-case letters, digits and hyphens inside."
        errors.append(FieldError("namespace", detail, "“windlass” would work."))
    if reach not in dict(Cluster._meta.get_field("reach").flatchoices):
        errors.append(FieldError("reach", f"“{reach[:20]}” is no way to reach replicas.", "Use pods or nodes."))
    if errors:
        raise Invalid(*errors)
    cluster = Cluster(
        workspace=workspace,
        name=name,
        provider=BROUGHT,
        machines=0,
        disk_gib=0,
        approved=True,  # there is nothing to buy
        namespace=namespace,
        reach=reach,
    )
    seal_field(cluster, "kubeconfig", kubeconfig.encode())
    return _created(cluster, actor, "Waits for a look at it.", {"namespace": namespace})


def change_kubeconfig(cluster: Cluster, actor: Actor, kubeconfig: str, if_generation: int | None = None) -> Cluster:
    """Give a cluster that was brought new credentials. Raises Invalid, Conflict, Outdated, Deleting."""
    if cluster.provider != BROUGHT:
        raise Conflict(f"“{cluster.name}” was bought: it has no kubeconfig to change.", code="NotPossible")
    if errors := _kubeconfig_errors(kubeconfig):
        raise Invalid(*errors)
    sealed = seal(kubeconfig.encode(), context_of(cluster, "kubeconfig"))
    with transaction.atomic():
        # The words are ours: an event must not carry a sealed value either.
        message = "It has another kubeconfig."
        row = want(cluster, actor, spec={"kubeconfig": sealed}, if_generation=if_generation, message=message)
        audit.record(actor, "cluster.kubeconfig", row.typed_id, {"name": row.name}, row.workspace)
    return row


def approve_cluster(cluster: Cluster, actor: Actor, if_generation: int | None = None) -> Cluster:
    """Buy what the plan says. Once it is approved, saying so again changes nothing.

    Raises Conflict where there is no plan that waits, Outdated, Deleting.
    """
    with transaction.atomic():
        held = Cluster.objects.select_for_update(no_key=True).get(pk=cluster.pk)
        check_generation(held, if_generation)
        if held.goal == Goal.DELETE:
            raise Deleting(f"{held.typed_id} is being deleted.")
        if held.approved and not held.is_final:
            return held
        if held.phase != "planned" or held.goal != Goal.RUN:
            why = NOT_PLANNED.get(held.phase, f"It is {held.current_phase.word.lower()}.")
            raise Conflict(f"“{held.name}” has no plan that waits for approval. {why}", code="NotPlanned")
        price = rate(held.price_usd_per_hour)
        row = want(held, actor, spec={"approved": True}, reason="Approved", message=f"Approved, at {price}.")
        detail = {"name": row.name, "price_usd_per_hour": row.price_usd_per_hour}
        audit.record(actor, "cluster.approve", row.typed_id, detail, row.workspace)
    return row


def stop_cluster(cluster: Cluster, actor: Actor, *, force: bool = False, if_generation: int | None = None) -> Cluster:
    """Take back all that was bought; its rows stay, with what it has cost. It does not start again.

    Raises Conflict while somebody's work is there and it is not by `force`, Outdated, Deleting, NotStoppable.
    """
    with transaction.atomic():
        if not force:
            check_cluster_unused(cluster)
        row = want(cluster, actor, goal=Goal.STOP, if_generation=if_generation)
        audit.record(actor, "cluster.stop", row.typed_id, {"name": row.name, "force": force}, row.workspace)
    return row


def check_cluster_unused(cluster: Cluster) -> None:
    """Raises Conflict while somebody's work stands there or waits for it.

    It is held until the caller's transaction ends, and so is its place: nothing more is placed there in between.
    """
    Cluster.objects.select_for_update(no_key=True).get(pk=cluster.pk)
    place = Place.objects.select_for_update(no_key=True).filter(cluster=cluster).first()
    names = owners_at(place) if place else []
    if names:
        fix = "Stop or move them first, or send force=true: then they lose what runs there."
        raise Conflict(f"“{cluster.name}” is in use: {some_of(names)}. {fix}", code="InUse")


def _created(cluster: Cluster, actor: Actor, message: str, detail: dict[str, Any]) -> Cluster:
    try:
        with transaction.atomic():
            create(cluster, actor, message=message)
            kept = {"name": cluster.name, "provider": cluster.provider, **detail}
            audit.record(actor, "cluster.create", cluster.typed_id, kept, cluster.workspace)
    except IntegrityError as error:
        fix = "Choose another name, or delete that one first."
        message = f"There is a cluster “{cluster.name}” already. {fix}"
        raise Conflict(message, code="NameTaken", errors=[FieldError("name", "This name is taken.", fix)]) from error
    return cluster


def _machine_errors(account: CloudAccount, machine_type: str) -> list[FieldError]:
    """Where prices of the region are known, only what has one: a plan without its price is none."""
    if not MACHINE_TYPE.fullmatch(machine_type):
        return [FieldError("machine_type", f"“{machine_type[:40]}” is no type of machine.", "GET offers lists them.")]
    there = Offer.objects.filter(provider=account.provider, region=account.region)
    known = list(there.values_list("machine_type", flat=True))
    if not known or machine_type in known:
        return []
    near = difflib.get_close_matches(machine_type, known, 1)
    fix = f"Did you mean “{near[0]}”?" if near else f"There are: {', '.join(known[:20])}."
    return [FieldError("machine_type", f"No price of “{machine_type}” in {account.region} is known here.", fix)]


def _kubeconfig_errors(text: str) -> list[FieldError]:
    try:
        check_kubeconfig(text)
    except ValueError as refusal:
        return [FieldError.of("kubeconfig", str(refusal))]
    return []
