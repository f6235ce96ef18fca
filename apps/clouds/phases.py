"""A cloud account, and a sight: what one batched look at one kind of resource in one region saw."""

from apps.core.phases import Phase, Phases

ACCOUNT_PHASES = Phases(
    Phase("checking", "Checking", "run", to=("ready", "refused")),
    Phase("ready", "Ready", "ok", to=("checking", "refused")),
    Phase("refused", "Needs attention", "bad", to=("checking", "ready")),
    endings=(),
)

SIGHT_PHASES = Phases(
    Phase("watching", "Watched", "ok", to=("unreachable",)),
    Phase("unreachable", "Not answering", "warn", to=("watching",)),
    endings=(),
)
