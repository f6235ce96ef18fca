"""Deployments: a placement for each revision, the gateway's list, and the order in which traffic moves.

Traffic moves only to what is ready. What shrinks or goes leaves the list first; only when the gateway is known to
route by the new list is anything stopped. The highest ordinals go first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Max

from apps.core.actor import WINDLASS
from apps.core.models import Goal
from apps.core.phases import CLEANING, DELETED
from apps.core.wants import lock, wake, want
from apps.deployments.models import Deployment, Gateway, Revision
from apps.placements import services
from apps.placements.models import Placement
from apps.placements.services import Draft, Node
from apps.placements.workload import Probe, Resources, Workload
from workers.engine import Context, Outcome, Reconciler, stay
from workers.reconcilers.jobs import blob_input, settle_placements
from workers.reconcilers.usage import read_usage

GRACE_SECONDS = 30
FAILED_WAIT_SECONDS = 60


@dataclass(frozen=True)
class View:
    """A deployment as it stands: `current` is the placement of what is wanted, `others` all the rest that lives."""

    current: Placement | None
    others: list[Placement]
    failed: list[Placement]
    applied: bool

    @property
    def ready(self) -> list[int]:
        return sorted(self.current.ready_ordinals) if self.current else []


def slot_of(row: Deployment) -> str:
    return f"r{row.revision}/local"


def view(row: Deployment) -> View:
    living = [item for item in services.of_owner(row.pk) if not item.is_final]
    wanted = Resources(row.cpus, row.memory_bytes)
    matching = [
        item
        for item in living
        if item.goal == Goal.RUN
        and not item.is_ending
        and item.slot == slot_of(row)
        and item.wanted.resources == wanted
    ]
    current = matching[-1] if matching else None
    ended = Placement.objects.filter(owner_id=row.pk, slot=slot_of(row), phase="failed").order_by("pk")
    return View(
        current=current,
        others=[item for item in living if item is not current],
        failed=list(ended),
        applied=is_applied(row),
    )


def is_applied(row: Deployment) -> bool:
    """Whether every gateway is known to route by the deployment's present list."""
    return all(gateway.applied.get(row.typed_id, 0) >= row.listing_version for gateway in Gateway.objects.all())


def serving(row: Deployment, context: Context) -> Outcome:
    """One step towards what is wanted; the order of the questions is the order in which traffic is safe."""
    if row.goal == Goal.STOP:
        return _outcome(
            row, "stopping", "Stopping", "Taken off the gateway; requests in flight are finished.", listing=[]
        )
    seen = view(row)
    if seen.current is None:
        return _place(row, context, seen)
    replicas = seen.current.wanted.replicas
    note, after = "", None
    if replicas < row.replicas:
        try:
            context.record("resize", lambda: services.resize(_current(seen), row.replicas))
        except services.NoCapacity as error:  # those that there are get their requests all the same
            note, after = f"There is no room for {row.replicas} replicas: {error}.", 10.0
    listing = _listing(row, seen)
    if listing != row.listing:
        return _report(row, seen, note=note, listing=listing)
    if not seen.applied:
        return _report(row, seen, note=note, after=1)
    if seen.current.pk in {item["placement"] for item in _entries(row)}:
        _retire(seen, context)
        if replicas > row.replicas:
            context.record("resize", lambda: services.resize(_current(seen), row.replicas))
    return _report(row, seen, note=note, after=after)


def _current(seen: View) -> Placement:
    assert seen.current is not None
    return seen.current


def _entries(row: Deployment) -> list[dict[str, Any]]:
    return [{**item, "placement": UUID(item["placement"])} for item in row.listing]


def _place(row: Deployment, context: Context, seen: View) -> Outcome:
    """Start the placement that is missing; after failures wait longer, and say why they failed."""
    last = Placement.objects.filter(owner_id=row.pk, slot=slot_of(row)).aggregate(Max("attempt"))["attempt__max"] or 0
    if seen.failed and seen.failed[-1].attempt == last:
        wait = min(FAILED_WAIT_SECONDS, 2 ** len(seen.failed))
        age = context.now() - seen.failed[-1].phase_since
        if age.total_seconds() < wait:
            note = f"The last try ended: {seen.failed[-1].message} The next one follows in {wait} s."
            return _report(row, seen, note=note, after=1)
    try:
        context.record("reserve", lambda: services.reserve(row, last + 1, draft(row)))
    except services.NoCapacity as error:
        return _report(row, seen, note=f"Waiting for capacity: {error}.", after=10)
    return _report(row, seen, note="Loading the model.", after=None)


def draft(row: Deployment) -> Draft:
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
            replicas=row.replicas,
            ports=("http",),
            probe=Probe("/v2/health/ready"),
            grace_seconds=GRACE_SECONDS,
        )

    return Draft(slot_of(row), resources.times(row.replicas), build)


def _listing(row: Deployment, seen: View) -> list[dict[str, Any]]:
    """Which replicas may get requests: the wanted revision once all of it was ready, until then what there was."""
    current = _current(seen)
    listed = {item["placement"] for item in row.listing}
    wanted = range(row.replicas)
    all_ready = set(wanted) <= set(seen.ready)
    alone = not ({str(item.pk) for item in seen.others} & listed)
    if str(current.pk) in listed or all_ready or (alone and seen.ready):
        return [
            {
                "placement": str(current.pk),
                "revision": row.revision,
                "weight": 100,
                "ordinals": list(wanted),
            }
        ]
    alive = {str(item.pk) for item in seen.others}
    return [item for item in row.listing if item["placement"] in alive]


def _retire(seen: View, context: Context) -> None:
    """Stop what the gateway no longer knows."""
    going = [item for item in seen.others if item.goal == Goal.RUN]
    if going:

        def write() -> None:
            for placement in lock(Placement, [item.pk for item in going]):
                if not placement.is_final:
                    want(placement, WINDLASS, goal=Goal.STOP, reason="Retired", message="Another one serves now.")

        context.record("retire", write)


def _report(
    row: Deployment,
    seen: View,
    *,
    note: str = "",
    listing: list[dict[str, Any]] | None = None,
    after: float | None = None,
) -> Outcome:
    """The phase and its sentence, from what is listed and ready."""
    ready = [ordinal for ordinal in seen.ready if ordinal < row.replicas]
    wanted = row.replicas
    listed = row.listing if listing is None else listing
    on_list = {item["revision"] for item in listed}
    replacing = _answers_still(seen, {item["placement"] for item in listed})
    serves = row.revision in on_list and seen.applied and listing is None and not replacing
    serving_revision = row.revision if serves else row.serving_revision
    fields: dict[str, Any] = {"ready_replicas": len(ready), "serving_revision": serving_revision}
    crash = _crash_sentence(seen)
    if serves and len(ready) >= wanted and not any(item.goal == Goal.RUN for item in seen.others):
        phase, reason, message = "serving", "Serving", f"{len(ready)} ready, r{row.revision} answers."
    elif serves or (row.serving_revision == row.revision and row.revision in on_list and not replacing):
        phase, reason = ("serving", "Scaling") if ready else ("degraded", "NoReplicaReady")
        message = note or f"{len(ready)} of {wanted} replicas ready."
        if ready and len(ready) < wanted and crash:
            phase, reason = "degraded", "ReplicaCrashLoop"
    elif on_list and row.serving_revision is not None:
        phase, reason = "updating", "Moving"
        answers = "those before answer" if row.revision in on_list else f"r{min(on_list)} answers"
        message = note or f"Moving to r{row.revision}: {len(ready)} of {wanted} replicas ready, {answers}."
    else:
        phase, reason = "starting", "Starting"
        message = note or f"Loading the model: {len(ready)} of {wanted} replicas ready."
    if crash and len(ready) < wanted:
        message = f"{message} {crash}" + (f" Roll back to stay at r{min(on_list)}." if phase == "updating" else "")
    return _outcome(row, phase, reason, message, listing=listing, fields=fields, after=after)


def _answers_still(seen: View, listed: set[str]) -> bool:
    """Whether another placement than the wanted one gets the requests, and is well."""
    if seen.current and str(seen.current.pk) in listed:
        return False
    others = [item for item in seen.others if item.goal == Goal.RUN and not item.is_ending]
    return any(item.ready_ordinals for item in others if str(item.pk) in listed)


def _crash_sentence(seen: View) -> str:
    message = seen.current.message if seen.current else ""
    return message if message.startswith("Replica") else ""


def stopping(row: Deployment, context: Context) -> Outcome:
    if row.goal == Goal.RUN:
        return _outcome(row, "starting", "Starting", "Starting again.")
    if not is_applied(row):
        return stay(row, after=1)
    if settle_placements(row.pk, Goal.STOP, context):
        return stay(row, after=2)
    context.record("usage", lambda: read_usage(row))
    fields = {"ready_replicas": 0, "serving_revision": None}
    return _outcome(row, "stopped", "Stopped", "Stopped. It costs nothing; start it again at any time.", fields=fields)


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
        return stay(row, after=2, message="Its replicas are being stopped and removed.")
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
