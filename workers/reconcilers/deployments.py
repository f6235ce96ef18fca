"""Deployments: a placement for each place of the wanted revision, the gateway's list, and the order in which traffic
moves.

Traffic moves only to what is ready. What shrinks or goes leaves the list first; only when the gateway is known to
route by the new list is anything stopped. The highest ordinals go first.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Max

from apps.core.actor import WINDLASS
from apps.core.models import Goal
from apps.core.phases import CLEANING, DELETED
from apps.core.wants import lock, wake, want
from apps.deployments.models import Deployment, Gateway, Revision
from apps.placements import services
from apps.placements.models import Place, Placement
from apps.placements.services import Draft, Node
from apps.placements.workload import Probe, Resources, Workload
from workers.engine import Context, Outcome, Reconciler, stay
from workers.reconcilers.jobs import blob_input, settle_placements
from workers.reconcilers.listing import next_list
from workers.reconcilers.parts import Part, View, Wanted, is_applied, is_lost, view
from workers.reconcilers.standing import Lack, standing
from workers.reconcilers.usage import read_usage

GRACE_SECONDS = 30
FAILED_WAIT_SECONDS = 60
CAPACITY_SECONDS = 10.0
AWAY_LOOK_SECONDS = 15.0
BEGIN_SECONDS = 300.0


def serving(row: Deployment, context: Context) -> Outcome:
    """One step towards what is wanted; the order of the questions is the order in which traffic is safe."""
    if row.goal == Goal.STOP:
        return _outcome(
            row, "stopping", "Stopping", "Taken off the gateway; requests in flight are finished.", listing=[]
        )
    seen = view(row, context.now)
    lacks = [lack for part in seen.parts if (lack := _complete(row, part, context))]
    blocked = {lack.part.wanted.slot for lack in lacks if lack.blocks}
    listing = next_list(row, seen, blocked)
    if listing != row.listing:
        return _report(row, seen, lacks, listing=listing)
    if not seen.applied:
        return _report(row, seen, lacks, after=1)
    _retire(row, seen, context)
    for part in seen.parts:
        if part.current and part.current.wanted.replicas > part.wanted.replicas:
            _resize(part, context)
    return _report(row, seen, lacks, after=min((lack.look_again for lack in lacks), default=None))


def _complete(row: Deployment, part: Part, context: Context) -> Lack | None:
    """Start what a part is missing; what can't be had now, and when to look again."""
    if part.current is None:
        return _place(row, part, context)
    if part.current.wanted.replicas < part.wanted.replicas:
        try:
            _resize(part, context)
        except services.NoCapacity as error:  # those that there are get their requests all the same
            return Lack(
                part, f"There is no room for {part.wanted.replicas} replicas: {error}.", CAPACITY_SECONDS, blocks=True
            )
    if part.away:
        words = f"{part.place_name} does not answer; its replicas get requests as long as the gateway reaches them."
        return Lack(part, words, AWAY_LOOK_SECONDS, blocks=not part.full)
    if part.current.place.phase == "unreachable":
        return Lack(part, "", AWAY_LOOK_SECONDS)
    return _not_begun(part, context)


def _not_begun(part: Part, context: Context) -> Lack | None:
    """A cluster has what was reserved only by our own count: where none of its machines takes a replica for minutes,
    the others don't wait for that any longer."""
    placement = part.current
    if placement is None or part.full or not placement.observed:
        return None
    states = {rank["state"] for rank in placement.observed.get("ranks", ())}
    if placement.observed["state"] != "pending" and not states <= {"ready", "starting"}:
        return None
    left = BEGIN_SECONDS - (context.now() - (placement.mutated_at or placement.created_at)).total_seconds()
    if left > 0:
        return Lack(part, "", max(1.0, left))
    some = "not begun" if not part.ready else f"begun only {len(part.ready)} of {part.wanted.replicas}"
    why = placement.message or "It does not say why."
    return Lack(part, f"{part.place_name} has {some}: {why}", CAPACITY_SECONDS * 6, blocks=True)


def _resize(part: Part, context: Context) -> None:
    placement = part.current
    assert placement is not None
    context.record("resize", lambda: services.resize(placement, part.wanted.replicas))


def _place(row: Deployment, part: Part, context: Context) -> Lack | None:
    """Start the placement that is missing; after failures wait longer, and say why they failed."""
    slot = part.wanted.slot
    tries = Placement.objects.filter(owner_id=row.pk, slot=slot)
    last = tries.aggregate(Max("attempt"))["attempt__max"] or 0
    failed = list(tries.filter(phase="failed").order_by("pk"))
    if failed and failed[-1].attempt == last:
        wait = min(FAILED_WAIT_SECONDS, 2 ** len(failed))
        if (context.now() - failed[-1].phase_since).total_seconds() < wait:
            return Lack(part, f"The last try ended: {failed[-1].message} The next one follows in {wait} s.", 1.0)
    if part.wanted.place and (why := _why_not_there(part.place)):
        return Lack(part, why, CAPACITY_SECONDS, blocks=True)
    try:
        context.record("reserve", lambda: services.reserve(row, last + 1, draft(row, part.wanted)))
    except services.NoCapacity as error:
        return Lack(part, f"Waiting for capacity: {error}.", CAPACITY_SECONDS, blocks=True)
    return None


def _why_not_there(place: Place | None) -> str:
    """Why a place that a part has to stand on can't have it, whatever there is room for; "" where it may."""
    if place is None or place.gone_at or place.goal == Goal.DELETE:
        name = f"{place.name} is gone" if place else "A place of the spread is gone"
        return f"{name}: take it out of the spread."
    if place.lost_at:
        return f"{place.name} is lost: nobody there answers."
    return ""


def draft(row: Deployment, wanted: Wanted) -> Draft:
    resources = Resources(row.cpus, row.memory_bytes)

    def build(name: str, node: Node) -> Workload:
        revision = Revision.objects.select_related("export__model_version__model").get(
            deployment=row, number=row.revision
        )
        export = revision.export
        files = {"model.onnx": export.file, "signature.json": export.signature_file}
        return Workload(
            name=name,
            kind="service",
            argv=("python", "-m", "workers.serving"),
            env={
                "WINDLASS_MODEL": export.model_version.model.name,
                "WINDLASS_DEPLOYMENT": f"{row.workspace.slug}/{row.name}",
                "WINDLASS_REVISION": str(row.revision),
            },
            inputs=tuple(blob_input(file, blob) for file, blob in files.items() if blob is not None),
            resources=resources,
            replicas=wanted.replicas,
            ports=("http",),
            probe=Probe("/v2/health/ready"),
            grace_seconds=GRACE_SECONDS,
        )

    return Draft(wanted.slot, resources.times(wanted.replicas), build, place=wanted.place)


def _retire(row: Deployment, seen: View, context: Context) -> None:
    """Stop what the gateway no longer knows. What stands on a lost host goes whole, as soon as that is back."""
    listed = {item["placement"] for item in row.listing}
    going = {item.pk: is_lost(item) for item in seen.others if item.goal == Goal.RUN and str(item.pk) not in listed}
    if not going:
        return

    def write() -> None:
        for placement in lock(Placement, list(going)):
            if placement.is_final:
                continue
            if going[placement.pk]:
                want(placement, WINDLASS, goal=Goal.DELETE, reason="HostLost", message="Replaced: its host was lost.")
            else:
                want(placement, WINDLASS, goal=Goal.STOP, reason="Retired", message="Another one serves now.")

    context.record("retire", write)


def _report(
    row: Deployment,
    seen: View,
    lacks: list[Lack],
    *,
    listing: list[dict[str, Any]] | None = None,
    after: float | None = None,
) -> Outcome:
    phase, reason, message, fields = standing(row, seen, lacks, listing)
    return _outcome(row, phase, reason, message, listing=listing, fields=fields, after=after)


def stopping(row: Deployment, context: Context) -> Outcome:
    if row.goal == Goal.RUN:
        return _outcome(row, "starting", "Starting", "Starting again.")
    if not is_applied(row):
        return stay(row, after=1)
    if settle_placements(row.pk, Goal.STOP, context):
        return stay(row, after=2, message=_waits_for(row, "Its replicas finish what they have and stop."))
    context.record("usage", lambda: read_usage(row))
    fields = {"ready_replicas": 0, "serving_revision": None}
    return _outcome(row, "stopped", "Stopped", "Stopped. It costs nothing; start it again at any time.", fields=fields)


def _waits_for(row: Deployment, message: str) -> str:
    """With the names of places that don't answer, if that is what it takes so long for."""
    left = [item.place for item in services.of_owner(row.pk) if not item.is_final and not item.place.lost_at]
    silent = sorted({place.name for place in left if place.phase == "unreachable"})
    if not silent:
        return message
    return f"{message} {', '.join(silent)} does not answer: what runs there stops when it does."


def stopped(row: Deployment, context: Context) -> Outcome:
    if row.goal == Goal.RUN:
        return _outcome(row, "starting", "Starting", "Starting.")
    return stay(row)


def cleaning(row: Deployment, context: Context) -> Outcome:
    if row.listing:
        return _outcome(row, CLEANING, "Deleting", "Taken off the gateway.", listing=[])
    if not is_applied(row):
        return stay(row, after=1)
    if settle_placements(row.pk, Goal.DELETE, context):
        return stay(row, after=2, message=_waits_for(row, "Its replicas are being stopped and removed."))
    return _outcome(row, DELETED, "Deleted", "", fields={"ready_replicas": 0, "serving_revision": None}, gateways=True)


def _outcome(
    row: Deployment,
    phase: str,
    reason: str,
    message: str,
    *,
    listing: list[dict[str, Any]] | None = None,
    fields: dict[str, Any] | None = None,
    after: float | None = None,
    gateways: bool = False,
) -> Outcome:
    changes = {name: value for name, value in (fields or {}).items() if getattr(row, name) != value}
    if listing is not None and listing != row.listing:
        changes |= {"listing": listing, "listing_version": row.listing_version + 1}
        gateways, after = True, 1.0
    keys = list(Gateway.objects.values_list("pk", flat=True)) if gateways else []
    return Outcome(
        phase=phase,
        reason=reason,
        message=message,
        after=0 if phase != row.phase and after is None else after,
        fields=changes,
        locks=[("gateway", keys)] if keys else [],
        also=(lambda: wake("gateway", keys)) if keys else None,
    )


def _with_usage(step: Any) -> Any:
    def stepped(row: Deployment, context: Context) -> Outcome:
        context.record("usage", lambda: read_usage(row))
        outcome: Outcome = step(row, context)
        return outcome

    return stepped


RECONCILER = Reconciler(
    "deployment",
    {
        **{phase: _with_usage(serving) for phase in ("starting", "serving", "updating", "degraded")},
        "stopping": stopping,
        "stopped": stopped,
        CLEANING: cleaning,
    },
    service=True,
)
