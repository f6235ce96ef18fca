"""An export, from waiting for capacity to its certificate. One outside its tolerances ends as rejected."""

from apps.core.phases import Phase, Phases, job_endings

EXPORT_PHASES = Phases(
    Phase("queued", "Queued", "wait", to=("exporting",), part="waiting for capacity", timeline_tone="wait"),
    Phase("exporting", "Certifying", "run", to=("queued",), part="exporting and measuring", timeline_tone="run"),
    *(
        Phase("succeeded", "Certified", "ok", final=True) if phase.name == "succeeded" else phase
        for phase in job_endings()
    ),
    Phase("rejected", "Rejected", "bad", final=True),
    endings=("succeeded", "rejected", "failed", "cancelled"),
)
