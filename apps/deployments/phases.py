"""A deployment: a service, so it may go from stopped back to starting."""

from apps.core.phases import Phase, Phases

SERVICE = ("starting", "serving", "updating", "degraded", "stopping")

DEPLOYMENT_PHASES = Phases(
    Phase("starting", "Starting", "run", to=SERVICE, part="starting", timeline_tone="s1"),
    Phase("serving", "Serving", "ok", to=SERVICE, part="serving", timeline_tone="run"),
    Phase("updating", "Moving", "run", to=SERVICE, part="serving", timeline_tone="run"),
    Phase("degraded", "Degraded", "warn", to=SERVICE, part="degraded", timeline_tone="bad"),
    Phase("stopping", "Stopping", "run", to=("stopped", "starting"), part="stopping", timeline_tone="wait"),
    Phase("stopped", "Stopped", "off", to=("starting",)),
    Phase("failed", "Failed", "bad", final=True),
    endings=("failed",),
)

GATEWAY_PHASES = Phases(
    Phase("rendering", "In service", "ok", to=("refused",)),
    Phase("refused", "Configuration refused", "bad", to=("rendering",)),
    endings=(),
)
