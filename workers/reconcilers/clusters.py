"""A cluster: planned, bought, joined, ready; and taken back, all of it, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from apps.clouds.models import CloudSight, Offer
from apps.clusters.models import CloudResource, Cluster
from apps.core.actor import WINDLASS
from apps.core.models import Event
from apps.core.phases import CLEANING
from apps.core.sealing import seal_field, unseal_field
from apps.core.wants import create, want
from apps.placements.models import Place, Placement
from apps.placements.services import close_place
from workers.engine import Context, Outcome, Reconciler, Refused, Retry, stay
from workers.providers import bootstrap, graph, provider
from workers.providers.contract import ClusterSpec, Refusal, Resource, Throttled
from workers.reconcilers.cloud_access import be_patient, check_patience, ensure_sights, opened, scaled
from workers.reconcilers.cluster_ledger import ClusterLedger, outside_name
from workers.reconcilers.cluster_nodes import Nodes, NotAnswering, look_at_nodes
from workers.reconcilers.sights import wake_sights

BROUGHT = "kubeconfig"
SERVER = "machine-0"
API_PORT = 6443
ATTEMPTS, MOST_AN_HOUR = 5, 3
JOIN_SECONDS, PENDING_SECONDS, EMPTY_SECONDS, HELD_UP_SECONDS = 900.0, 900.0, 300.0, 3600.0
WAIT_SECONDS, SOON_SECONDS, POLL_SECONDS, BLOCKED_SECONDS = 10.0, 1.0, 3.0, 30.0
STEP_SECONDS = 12.0
GONE = CloudResource.State.GONE


# --- what is wanted -----------------------------------------------------------------------------------------------


def spec_of(row: Cluster, scripts: tuple[str, ...] = ()) -> ClusterSpec:
    there = Offer.objects.filter(provider=row.provider, region=row.region)
    machines = dict(there.values_list("machine_type", "price_usd_per_hour"))
    return ClusterSpec(
        name=outside_name(row),
        region=row.region,
        machine_type=row.machine_type,
        machines=row.machines,
        disk_gib=row.disk_gib,
        network=row.network,
        allowed_cidrs=tuple(row.allowed_cidrs),
        prices={**machines, **provider(row.provider).prices(row.region)},
        bootstrap=scripts,
    )


def planning(row: Cluster, context: Context) -> Outcome:
    """Say what will be made, in which order, at which price, before anything is."""
    if row.provider == BROUGHT:
        return Outcome("joining", "Joining", "Being looked at.")
    assert row.account
    if row.account.phase != "ready":
        words = f"The account {row.account.name} is not ready: {row.account.message or 'it is being checked.'}"
        raise Retry("AccountNotReady", words)
    spec = spec_of(row)
    if row.machine_type not in spec.prices:
        there = Offer.objects.filter(provider=row.provider, region=row.region)
        known = ", ".join(there.order_by("machine_type").values_list("machine_type", flat=True)) or "none"
        words = f"No price of a machine “{row.machine_type}” in {row.region} is known here. There are: {known}."
        raise Refused("UnknownMachineType", words)
    try:
        resources = provider(row.provider).graph(spec)
    except Refusal as refusal:
        raise Refused(refusal.reason, refusal.message) from refusal
    plan = [
        {
            "key": item.key,
            "kind": item.kind,
            "what": item.what,
            "price_usd_per_hour": item.price_usd_per_hour,
        }
        for item in resources
    ]
    fields = {"plan": plan, "price_usd_per_hour": sum(item.price_usd_per_hour for item in resources)}
    if row.approved:
        return Outcome("creating", "Creating", "Its resources are being made.", fields=fields)
    return Outcome("planned", "Planned", "Nothing is bought before the plan is approved.", fields=fields)


def planned(row: Cluster, context: Context) -> Outcome:
    if row.approved:
        return Outcome("creating", "Creating", "Its resources are being made.")
    return stay(row)


# --- making it ----------------------------------------------------------------------------------------------------


def creating(row: Cluster, context: Context) -> Outcome:
    """Make what the plan says, each confirmed before what needs it."""
    resources = _resources(row, context)
    rows = _rows(row)
    _refuse_what_ended(row, resources, rows)
    progress = _advance(row, context, resources, rows, attempts=ATTEMPTS)
    if progress.done:
        server = next(item for item in _rows(row) if item.key == SERVER and item.state == "live")
        access = {"server": f"https://{server.seen['facts']['public_ip']}:{API_PORT}"}
        return Outcome("joining", "Joining", "Its machines run; they bring up Kubernetes.", fields={"access": access})
    there = sum(1 for item in _rows(row) if graph.settled(item) and item.state != GONE)
    words = f"{there} of {len(resources)} resources are there."
    if progress.unclear:
        words += f" Not sure about one, it is being looked for: {progress.unclear[0]}"
    if held_up := _held_up(row, progress):
        if timezone.now() - row.phase_since > timedelta(seconds=scaled(HELD_UP_SECONDS)):
            raise Refused("NeverReady", f"It did not get on for {HELD_UP_SECONDS / 60:.0f} minutes. {held_up}")
        words += f" {held_up}"
    return _waiting(row, progress, "creating", "Creating", words, there / len(resources))


def joining(row: Cluster, context: Context) -> Outcome:
    """Wait for Kubernetes to answer and for its machines to be ready, within a time."""
    if row.provider != BROUGHT:
        resources, rows = _resources(row, context), _rows(row)
        _refuse_what_ended(row, resources, rows)
        progress = _advance(row, context, resources, rows, attempts=ATTEMPTS)
        if progress.lost:
            return _waiting(row, progress, "creating", "Creating", f"{_ended(progress.lost)} Another one is made.")
    try:
        nodes = look_at_nodes(row)
    except NotAnswering as error:
        return _not_joined(row, f"It does not answer yet: {error}")
    if len(nodes.ready) < max(1, row.machines):
        return _not_joined(row, f"{len(nodes.ready)} of {max(1, row.machines)} machines are ready. {nodes.why}".strip())
    return _ready(row, nodes)


def _not_joined(row: Cluster, words: str) -> Outcome:
    if timezone.now() - row.phase_since > timedelta(seconds=scaled(JOIN_SECONDS)):
        minutes = JOIN_SECONDS / 60
        fix = (
            "Look at whether its machines reach the internet, from where they fetch Kubernetes, and whether this "
            "machine is among those that may reach them."
            if row.provider != BROUGHT
            else "Look at whether the server's address in its kubeconfig can be reached from here."
        )
        raise Refused("NeverReady", f"It was not ready within {minutes:.0f} minutes. {words} {fix}")
    return Outcome("joining", "Joining", words, after=scaled(POLL_SECONDS), progress=row.progress)


def _ready(row: Cluster, nodes: Nodes) -> Outcome:
    """It takes work; its place knows what its machines have."""

    def also() -> None:
        place = Place.objects.filter(cluster=row).first()
        if place is None:
            place = Place(workspace_id=row.workspace_id, target="kubernetes", cluster=row, capacity=nodes.capacity)
            create(place, WINDLASS, message=f"{row.name} takes work.")
        elif place.capacity != nodes.capacity:
            Place.objects.filter(pk=place.pk).update(capacity=nodes.capacity)

    fields = {} if row.ready_at else {"ready_at": Now()}
    machines = "1 machine is" if len(nodes.ready) == 1 else f"{len(nodes.ready)} machines are"
    return Outcome("ready", "Ready", f"{machines} ready.", fields=fields, also=also)


def _refuse_what_ended(
    row: Cluster, resources: tuple[Resource, ...], rows: list[CloudResource], server_only: bool = False
) -> None:
    """A server that ended takes the cluster with it, and what the cloud took back at once will not be had again."""
    for lost in graph.plan(resources, rows, True, _grace()).lost:
        if graph.standing(lost, _grace()) != "gone":
            continue
        facts = lost.seen.get("facts", {})
        refusal = "" if server_only else facts.get("refusal", "")
        if lost.key == SERVER or refusal:
            name = "The machine with its server" if lost.key == SERVER else f"Its {lost.key}"
            why = facts.get("why") or "It was removed outside Windlass."
            words = f"{name} is gone. {why} What is left of the cluster is taken back; start a new one."
            raise Refused(refusal or "ServerLost", words)


# --- keeping it ---------------------------------------------------------------------------------------------------


def keeping(row: Cluster, context: Context) -> Outcome:
    """Ready or degraded: a machine that is gone is bought again; without its server it is lost."""
    if row.provider != BROUGHT:
        resources, rows = _resources(row, context), _rows(row)
        _refuse_what_ended(row, resources, rows, server_only=True)
        if words := _vanishing(rows):
            return Outcome("degraded", "KeepsVanishing", words, after=scaled(BLOCKED_SECONDS * 10))
        try:
            progress = _advance(row, context, resources, rows)
        except Refused as refused:  # what it has goes on; what it lacks is tried again
            words = f"What it lacks could not be made: {refused.message}"
            return Outcome("degraded", refused.reason, words, after=scaled(BLOCKED_SECONDS * 10))
        if progress.lost:
            words = f"{_ended(progress.lost)} Another one is bought as soon as that is sure."
            return _waiting(row, progress, "degraded", "MachineLost", words)
        if not progress.done:
            return _waiting(row, progress, row.phase, row.reason, row.message)
    try:
        nodes = look_at_nodes(row)
    except NotAnswering as error:
        words = f"Kubernetes there does not answer: {error}. What runs there goes on."
        return Outcome("degraded", "NotAnswering", words, after=scaled(BLOCKED_SECONDS))
    wanted = max(1, row.machines)
    if len(nodes.ready) < wanted:
        words = f"{len(nodes.ready)} of {wanted} machines are ready. {nodes.why}".strip()
        return Outcome("degraded", "MachineNotReady", words, after=scaled(WAIT_SECONDS))
    return _ready(row, nodes)


def _vanishing(rows: list[CloudResource]) -> str:
    """What was made often of late and is not there: it is not made again before an hour has passed."""
    limit = timezone.now() - timedelta(seconds=scaled(HELD_UP_SECONDS))
    for key in sorted({item.key for item in rows}):
        attempts = [item for item in rows if item.key == key]
        lately = [item for item in attempts if item.attempt > 1 and item.intended_at > limit]
        if len(lately) >= MOST_AN_HOUR and all(item.state == GONE for item in attempts):
            return (
                f"{key} could not be had {len(lately)} times within an hour. It is tried again later; the rest goes on."
            )
    return ""


def _ended(lost: list[Any]) -> str:
    facts = lost[0].seen.get("facts", {})
    why = facts.get("why") or "It was removed outside Windlass."
    return f"{lost[0].key} has ended. {why}"


# --- taking it back -----------------------------------------------------------------------------------------------


def cleaning(row: Cluster, context: Context) -> Outcome:
    """First what runs there, then all that was made, in reverse; it ends when the cloud confirmed that all is gone."""
    place = Place.objects.filter(cluster=row).first()
    if place is not None and not place.gone_at:
        busy = _empty(row, place)
        if busy:
            return stay(row, after=scaled(POLL_SECONDS), message=busy)
        return stay(row, after=0, locks=[("place", [place.pk])], also=_closing(place))
    if row.account is not None and CloudResource.objects.filter(cluster=row).exclude(state=GONE).exists():
        resources = provider(row.provider).graph(spec_of(row))
        progress = _advance(row, context, resources, _rows(row), wanted=False)
        if progress.blocked:
            words = f"Something could not be removed yet, it is tried again. {progress.blocked[0][1].message}"
            return _waiting(row, progress, CLEANING, "DeleteBlocked", words)
        if not progress.done:
            left = CloudResource.objects.filter(cluster=row).exclude(state=GONE).count()
            words = f"{left} resources are being taken back. {_held_up(row, progress)}".strip()
            return _waiting(row, progress, CLEANING, row.reason, words)
    reason, message = _ending(row)
    return Outcome(row.ending, reason, message, fields={"credentials": "", "access": {}})


def _empty(row: Cluster, place: Place) -> str:
    """Have what runs there deleted first; what for, or "" when there is nothing to wait for."""
    if row.ending == "failed":
        return ""
    if place.capacity:
        Place.objects.filter(pk=place.pk).update(capacity={})  # nothing fits there any more
    living = list(Placement.objects.filter(place=place).exclude(phase__in=Placement.phases.final))
    for placement in living:
        want(placement, WINDLASS, goal="delete", reason="ClusterGoes", message=f"{row.name} is being taken back.")
    if not living or timezone.now() - row.phase_since > timedelta(seconds=scaled(EMPTY_SECONDS)):
        return ""
    return f"What runs there is taken away first: {len(living)} left."


def _closing(place: Place) -> Callable[[], None]:
    def also() -> None:
        close_place(place)
        want(place, WINDLASS, goal="delete")

    return also


def _ending(row: Cluster) -> tuple[str, str]:
    """Why it ends, as was said when it began to: in between it told what held it up."""
    if row.ending == "cancelled":
        return "Stopped", "All that was bought was taken back."
    if row.ending != "failed":
        return "Deleted", "All that was bought was taken back."
    began = (
        Event.objects.filter(kind=row.kind, row_id=row.pk, new=CLEANING).exclude(old=CLEANING).order_by("-pk").first()
    )
    return (began.reason, began.message) if began else (row.reason, row.message)


# --- together -----------------------------------------------------------------------------------------------------


def _grace() -> timedelta:
    return timedelta(seconds=scaled(graph.GRACE_SECONDS))


def _rows(row: Cluster) -> list[CloudResource]:
    return list(CloudResource.objects.filter(cluster=row).order_by("pk"))


def _resources(row: Cluster, context: Context) -> tuple[Resource, ...]:
    """The graph, with each machine's first program; its secrets are made once, before the first call."""
    if not row.credentials:
        seal_field(row, "credentials", json.dumps(bootstrap.make_credentials(outside_name(row))).encode())

        def write() -> None:
            assert row.account
            Cluster.objects.filter(pk=row.pk).update(credentials=row.credentials)
            ensure_sights(row.account, row.region)

        context.record("credentials", write)
    service = provider(row.provider)
    credentials = json.loads(unseal_field(row, "credentials"))
    return service.graph(spec_of(row, bootstrap.scripts(credentials, row.machines, service.own_address)))


def _advance(
    row: Cluster,
    context: Context,
    resources: tuple[Resource, ...],
    rows: list[CloudResource],
    *,
    wanted: bool = True,
    attempts: int | None = None,
) -> graph.Progress:
    """Raises Refused where what is wanted can't be made, Retry where the cloud asks for patience."""
    assert row.account
    check_patience(row.account)
    executor = graph.Executor(
        provider=provider(row.provider),
        account=opened(row.account, row.region),
        resources=resources,
        ledger=ClusterLedger(row, context),
        grace=_grace(),
        attempts=attempts,
        seconds=STEP_SECONDS * min(1.0, settings.WINDLASS_TIME_SCALE),
    )
    try:
        progress = executor.advance(rows, wanted)
    except Throttled as error:
        raise be_patient(row.account, error) from error
    except Refusal as refusal:
        raise Refused(refusal.reason, refusal.message) from refusal
    if wanted:
        _refuse_what_hangs(rows)
    return progress


def _refuse_what_hangs(rows: list[CloudResource]) -> None:
    limit = timezone.now() - timedelta(seconds=scaled(PENDING_SECONDS))
    for item in rows:
        since: datetime = item.mutated_at or item.intended_at
        if item.state == "live" and item.seen.get("health") == "pending" and since < limit:
            words = f"{item.key} has been starting for {PENDING_SECONDS / 60:.0f} minutes and does not get on."
            raise Refused("NeverReady", f"{words} Try again, or choose another machine type or region.")


def _held_up(row: Cluster, progress: graph.Progress) -> str:
    """What keeps it from getting on, and is no refusal of its own: a look that is not allowed, or a "not yet"."""
    blind = CloudSight.objects.filter(account=row.account_id, region=row.region, phase="unreachable")
    sight = blind.filter(resource_kind__in=progress.waits).first()
    if sight is not None:
        return f"Nobody can see what became of it: {sight.message}"
    return f"Waits for the cloud: {progress.not_yet[0]}" if progress.not_yet else ""


def _waiting(
    row: Cluster, progress: graph.Progress, phase: str, reason: str, message: str, share: float | None = None
) -> Outcome:
    """Goes on when a sight saw something; the sights of what is awaited are woken."""
    assert row.account_id
    account_id, waits = row.account_id, set(progress.waits)
    after = 0.0 if progress.more else scaled(SOON_SECONDS if progress.soon else WAIT_SECONDS)

    def also() -> None:
        wake_sights(account_id, row.region, waits)

    return Outcome(phase, reason, message, after=after, progress=share, also=also if waits else None)


RECONCILER = Reconciler(
    "cluster",
    {
        "planning": planning,
        "planned": planned,
        "creating": creating,
        "joining": joining,
        "ready": keeping,
        "degraded": keeping,
        CLEANING: cleaning,
    },
)
