"""A cluster: planned, bought, joined, ready; and taken back, all of it, whatever happens."""

from apps.core.phases import Phase, Phases

LIVING = ("creating", "joining", "ready", "degraded")

CLUSTER_PHASES = Phases(
    Phase("planning", "Planning", "run", to=("planned", "creating", "joining"), part="planning", timeline_tone="wait"),
    Phase("planned", "Waits for approval", "wait", to=("planning", "creating"), part="waiting", timeline_tone="wait"),
    Phase("creating", "Creating", "run", to=LIVING, part="creating", timeline_tone="s1"),
    Phase("joining", "Joining", "run", to=LIVING, part="joining", timeline_tone="s1"),
    Phase("ready", "Ready", "ok", to=LIVING, part="ready", timeline_tone="run"),
    Phase("degraded", "Degraded", "warn", to=LIVING, part="degraded", timeline_tone="bad"),
    Phase("failed", "Failed", "bad", final=True),
    Phase("cancelled", "Stopped", "off", final=True),
    endings=("failed", "cancelled"),
)
