"""Deployments and their revisions: what is wanted of them, and what was asked of them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from apps.accounts import audit
from apps.accounts.models import Workspace
from apps.core import ids
from apps.core.actor import Actor
from apps.core.checks import name_errors, range_errors
from apps.core.errors import Conflict, FieldError, Invalid, invalid
from apps.core.figures import count
from apps.core.models import Goal
from apps.core.wants import Deleting, create, want
from apps.deployments.models import Deployment, Revision, UsageWindow
from apps.exports.models import Export
from apps.placements.models import Place
from apps.placements.places import place_named

MIB = 1024**2
MOST_REPLICAS = 100
MOST_WEIGHT = 1000
MOST_PLACES = 20


def url(deployment: Deployment) -> str:
    """Where the deployment answers; the same through all revisions."""
    return f"{settings.WINDLASS_GATEWAY_URL}/{deployment.workspace.slug}/{deployment.name}"


def create_deployment(
    workspace: Workspace,
    actor: Actor,
    *,
    name: str,
    export: Export,
    replicas: int | None = None,
    cpus: float = 0.25,
    memory_bytes: int = 512 * MIB,
    spread: list[dict[str, Any]] | None = None,
    note: str = "",
    override_reason: str = "",
) -> Deployment:
    """Serve an export at a URL of its own, as revision 1.

    `spread`: the places that it stands on, as `read_spread` takes them; `replicas` is their sum then.
    `override_reason`: why an export that its certificate rejected is served all the same; it goes into the audit
    trail. Raises Invalid, Conflict (the name is taken, the export can't be deployed).
    """
    size = {"cpus": cpus, "memory_bytes": memory_bytes, **_replicas_and_spread(workspace, 1, [], replicas, spread)}
    errors = [
        *name_errors("name", name),
        *size_errors(size["replicas"], cpus, memory_bytes),
        *_note_errors(note),
    ]
    if errors:
        raise Invalid(*errors)
    deployment = Deployment(workspace=workspace, name=name, revision=1, **size)
    try:
        with transaction.atomic():
            export = hold_deployable(export, override_reason)
            create(deployment, actor, message=f"r1 is {export.label}.")
            _add_revision(deployment, actor, 1, export, note, override_reason)
    except IntegrityError as error:
        fix = "Make a new revision of it, or choose another name."
        message = f"There is a deployment “{name}” already. {fix}"
        raise Conflict(message, code="NameTaken", errors=[FieldError("name", "This name is taken.", fix)]) from error
    return deployment


def create_revision(
    deployment: Deployment,
    actor: Actor,
    *,
    export: Export,
    note: str = "",
    override_reason: str = "",
    if_generation: int | None = None,
) -> Revision:
    """Make a revision and move the deployment to it. Raises Invalid, Conflict, Outdated, Deleting."""
    if errors := _note_errors(note):
        raise Invalid(*errors)
    with transaction.atomic():
        locked = Deployment.objects.select_for_update(no_key=True).get(pk=deployment.pk)
        if locked.goal == Goal.DELETE:
            raise Deleting(f"{locked.name} is being deleted.")
        export = hold_deployable(export, override_reason)
        number = (Revision.objects.filter(deployment=locked).aggregate(Max("number"))["number__max"] or 0) + 1
        revision = _add_revision(locked, actor, number, export, note, override_reason)
        want(
            locked,
            actor,
            spec={"revision": number},
            if_generation=if_generation,
            reason="NewRevision",
            message=f"r{number} is {export.label}.",
        )
    return revision


def roll_back(deployment: Deployment, actor: Actor, number: int, if_generation: int | None = None) -> Deployment:
    """Move to an earlier revision; nothing is made anew. Raises Invalid, Outdated, Deleting."""
    numbers = list(Revision.objects.filter(deployment=deployment).values_list("number", flat=True))
    if number not in numbers:
        there = ", ".join(f"{known}" for known in sorted(numbers))
        raise invalid("revision", f"“{deployment.name}” has no revision {number}.", f"There are: {there}.")
    return want(
        deployment,
        actor,
        spec={"revision": number},
        if_generation=if_generation,
        reason="RollBack",
        message=f"Back to r{number}.",
    )


def resize(deployment: Deployment, actor: Actor, spec: dict[str, Any], if_generation: int | None = None) -> Deployment:
    """Change `replicas`, `cpus`, `memory_bytes` or `spread`. Raises Invalid, Outdated, Deleting."""
    with transaction.atomic():
        held = Deployment.objects.select_for_update(no_key=True).get(pk=deployment.pk)
        stands = _replicas_and_spread(
            held.workspace, held.replicas, held.spread, spec.get("replicas"), spec.get("spread")
        )
        spec = {name: spec[name] for name in ("cpus", "memory_bytes") if name in spec} | stands
        sizes = {name: spec.get(name, getattr(held, name)) for name in ("replicas", "cpus", "memory_bytes")}
        if errors := size_errors(**sizes):
            raise Invalid(*errors)
        message = _spread_words(spec["spread"]) if spec["spread"] != held.spread else ""
        return want(held, actor, spec=spec, if_generation=if_generation, message=message)


def _spread_words(spread: list[dict[str, Any]]) -> str:
    """For an event, with the names of the places."""
    if not spread:
        return "It stands on one place, wherever there is room."
    places = Place.objects.filter(pk__in=[ids.parse(Place.prefix, entry["place"]) for entry in spread])
    names = {place.typed_id: place.name for place in places.select_related("host", "cluster")}
    told = [f"{names[entry['place']]}: {entry['replicas']}, weight {entry['weight']}" for entry in spread]
    return f"It stands on {'; '.join(told)}."


def _replicas_and_spread(
    workspace: Workspace,
    replicas: int,
    spread: list[dict[str, Any]],
    wanted: int | None,
    wanted_spread: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    """`replicas` and `spread` as they will be, from what they are and what is wanted. Raises Invalid.

    On several places a number in all says not how many each gets; on one it does.
    """
    if wanted_spread is not None:
        spread = read_spread(workspace, wanted_spread)
        total = sum(entry["replicas"] for entry in spread)
        if spread and wanted not in {None, total}:
            detail = f"The places of the spread have {count(total, 'replica')} in all, not {wanted}."
            raise invalid("replicas", detail, "Leave replicas out: it is their sum.")
        return {"spread": spread, "replicas": total if spread else replicas if wanted is None else wanted}
    if wanted is None or wanted == replicas or not spread:
        return {"spread": spread, "replicas": replicas if wanted is None else wanted}
    if len(spread) > 1:
        detail = f"It stands on {len(spread)} places, each with its own number of replicas."
        raise invalid("replicas", detail, "Send spread with the replicas of each place, or [] for one place.")
    return {"spread": [{**spread[0], "replicas": wanted}], "replicas": wanted}


def read_spread(workspace: Workspace, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a deployment keeps it, from [{"place": "plx_...", "replicas": 1, "weight": 100}]; [] is one place, any.

    `weight`: the share of the requests that the place gets, of the sum; with 0 it is ready and gets none. Raises
    Invalid with every value that can't be used.
    """
    errors: list[FieldError] = []
    spread: list[dict[str, Any]] = []
    for index, item in enumerate(given[:MOST_PLACES]):
        field = f"spread.{index}"
        entry = {"place": item["place"], "replicas": item.get("replicas", 1), "weight": item.get("weight", 100)}
        if entry["place"] in {other["place"] for other in spread}:
            fix = "Name each place once, with all its replicas."
            errors.append(FieldError(f"{field}.place", f"{entry['place']} is named twice.", fix))
        else:
            try:
                entry["place"] = place_named(workspace, entry["place"], f"{field}.place").typed_id
            except Invalid as refusal:
                errors += refusal.errors
        errors += range_errors(f"{field}.replicas", entry["replicas"], 1, MOST_REPLICAS)
        errors += range_errors(f"{field}.weight", entry["weight"], 0, MOST_WEIGHT)
        spread.append(entry)
    if len(given) > MOST_PLACES:
        errors.append(FieldError("spread", f"A spread has at most {MOST_PLACES} places.", "Use fewer."))
    if spread and not errors and not any(entry["weight"] for entry in spread):
        errors.append(FieldError("spread", "No place would get a request.", "Give one a weight above 0."))
    if not errors and sum(entry["replicas"] for entry in spread) > MOST_REPLICAS:
        errors.append(FieldError("spread", f"It has more than {MOST_REPLICAS} replicas in all.", "Use fewer."))
    if errors:
        raise Invalid(*errors)
    return spread


def size_errors(replicas: int, cpus: float, memory_bytes: int) -> list[FieldError]:
    errors = [
        *range_errors("cpus", cpus, 0.05, 256),
        *range_errors("memory_bytes", memory_bytes, 128 * MIB, 4 * 1024**4, "bytes"),
    ]
    if replicas == 0:
        errors.append(FieldError("replicas", "No replica could answer.", "Stop the deployment, or use 1 or more."))
    else:
        errors += range_errors("replicas", replicas, 1, MOST_REPLICAS)
    return errors


def _note_errors(note: str) -> list[FieldError]:
    return [] if len(note) <= 200 else [FieldError("note", "A note has at most 200 characters.", "Shorten it.")]


def hold_deployable(export: Export, override_reason: str) -> Export:
    """The export as it is now; nobody can begin to delete it until the caller's transaction ends.

    Raises Conflict unless it is certified, or rejected and overridden.
    """
    export = Export.objects.select_for_update(no_key=True).get(pk=export.pk)
    if export.goal == Goal.DELETE:
        raise Conflict(f"{export.label} is being deleted. Choose another export.", code="Deleting")
    if export.phase == "rejected" and not override_reason.strip():
        why = export.message or "Its certificate has a figure outside of your tolerance."
        raise Conflict(
            f"{export.label} was rejected. {why} Send override_reason to serve it all the same, or export again.",
            code="ExportRejected",
            errors=[FieldError("override_reason", "The export was rejected.", "Say why it is served all the same.")],
        )
    if export.phase not in {"succeeded", "rejected"}:
        word = export.current_phase.word.lower()
        raise Conflict(f"{export.label} can't be served: {word}. Choose one that is certified.", code="ExportNotReady")
    return export


def _add_revision(
    deployment: Deployment, actor: Actor, number: int, export: Export, note: str, override_reason: str
) -> Revision:
    revision = Revision.objects.create(
        deployment=deployment, number=number, export=export, note=note, created_by=actor.id
    )
    if export.phase == "rejected":
        detail = {"reason": override_reason[:1000], "export": export.typed_id, "revision": number}
        audit.record(actor, "deployment.override", deployment.typed_id, detail, deployment.workspace)
    return revision


# --- usage --------------------------------------------------------------------------------------------------------

HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
ROLL_UPS = ((HOUR_SECONDS, timedelta(hours=1)), (DAY_SECONDS, timedelta(days=2)))
BUCKETS = {"minute": 60, "hour": HOUR_SECONDS, "day": DAY_SECONDS}


def roll_up_usage() -> int:
    """Put windows older than an hour together by hour, and hours older than two days by day; returns how many went.

    Whoever deletes a window writes it into the sum, in one transaction, so that each request is counted once.
    """
    rolled = 0
    for seconds, age in ROLL_UPS:
        before = _floor(timezone.now() - age, seconds)
        finer = UsageWindow.objects.filter(seconds__lt=seconds, starts_at__lt=before)
        while deployment_id := finer.values_list("deployment", flat=True).first():
            with transaction.atomic():
                batch = list(
                    finer.filter(deployment=deployment_id).select_for_update(skip_locked=True).order_by("pk")[:5000]
                )
                if not batch:
                    break  # another process is at it
                UsageWindow.objects.filter(pk__in=[window.pk for window in batch]).delete()
                _add_up(batch, seconds)
            rolled += len(batch)
    return rolled


def _floor(time: datetime, seconds: int) -> datetime:
    return time - timedelta(seconds=time.timestamp() % seconds)


def _add_up(batch: list[UsageWindow], seconds: int) -> None:
    """Into the sums that are there already for the same deployment, revision and time, or into new ones."""
    groups: dict[tuple[int, datetime], list[UsageWindow]] = {}
    for window in batch:
        groups.setdefault((window.revision, _floor(window.starts_at, seconds)), []).append(window)
    for (revision, starts_at), windows in groups.items():
        same = {"deployment_id": windows[0].deployment_id, "revision": revision, "seconds": seconds}
        there = UsageWindow.objects.select_for_update().filter(**same, starts_at=starts_at).first()
        total = summed([*windows, *([there] if there else [])])
        UsageWindow(**same, pk=there.pk if there else None, starts_at=starts_at, **total).save()


def summed(windows: list[UsageWindow]) -> dict[str, Any]:
    """Counts are exact. Of percentiles that can't be put together exactly, the mean weighted by requests."""
    statuses: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    latency: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for window in windows:
        statuses.update(window.statuses)
        keys.update(window.keys)
        for name, value in window.latency_ms.items():
            latency[name] += value * window.requests
            weights[name] += window.requests
    return {
        "requests": sum(window.requests for window in windows),
        "errors": sum(window.errors for window in windows),
        "statuses": dict(statuses),
        "keys": dict(keys),
        "latency_ms": {name: round(latency[name] / weights[name], 3) for name in latency if weights[name]},
    }


def usage_series(
    deployment: Deployment, *, bucket: str, since: datetime, until: datetime, revision: int | None = None
) -> list[dict[str, Any]]:
    """What was asked, by minute, hour or day: starts_at, requests, errors, statuses, keys, latency_ms."""
    seconds = BUCKETS[bucket]
    windows = UsageWindow.objects.filter(deployment=deployment, starts_at__gte=since, starts_at__lt=until)
    if revision is not None:
        windows = windows.filter(revision=revision)
    groups: dict[datetime, list[UsageWindow]] = {}
    for window in windows.order_by("starts_at").iterator(chunk_size=2000):
        groups.setdefault(_floor(window.starts_at, seconds), []).append(window)
    return [{"starts_at": starts_at, **summed(found)} for starts_at, found in groups.items()]
