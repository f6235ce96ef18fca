"""A placement: one attempt to have one workload on one target. And the place that it stands on."""

from apps.core.phases import JOB_ENDINGS, Phase, Phases, job_endings

PLACEMENT_PHASES = Phases(
    Phase("pending", "Waiting", "wait", to=("starting",), part="waiting for the target", timeline_tone="wait"),
    Phase("starting", "Starting", "run", to=("running", "ready"), part="loading", timeline_tone="s1"),
    Phase("running", "Running", "run", to=("ready",), part="running", timeline_tone="run"),
    Phase("ready", "Ready", "ok", to=("running",), part="serving", timeline_tone="run"),
    *job_endings(),
    endings=JOB_ENDINGS,
)

PLACE_PHASES = Phases(
    Phase("watching", "Watched", "ok", to=("unreachable",)),
    Phase("unreachable", "Not answering", "warn", to=("watching",)),
    endings=(),
)
