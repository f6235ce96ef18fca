"""An uploaded version: its content is checked by a workload, then it is ready."""

from apps.core.phases import Phase, Phases


def _checked(checking: str) -> Phases:
    return Phases(
        Phase("queued", "Queued", "wait", to=("checking",), part="waiting for capacity", timeline_tone="wait"),
        Phase("checking", checking, "run", to=("queued",), part="checking", timeline_tone="run"),
        Phase("ready", "Ready", "ok", final=True),
        Phase("failed", "Failed", "bad", final=True),
        Phase("cancelled", "Cancelled", "off", final=True),
        endings=("ready", "failed", "cancelled"),
    )


DATASET_VERSION_PHASES = _checked("Checking")
MODEL_VERSION_PHASES = _checked("Checking")
