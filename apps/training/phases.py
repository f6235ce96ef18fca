"""A training run, from waiting for capacity to its model version."""

from apps.core.phases import JOB_ENDINGS, Phase, Phases, job_endings

TRAINING_RUN_PHASES = Phases(
    Phase("queued", "Queued", "wait", to=("starting",), part="waiting for capacity", timeline_tone="wait"),
    Phase("starting", "Starting", "run", to=("training", "queued"), part="loading data", timeline_tone="s1"),
    Phase("training", "Training", "run", to=("queued",), part="training", timeline_tone="run"),
    *job_endings(),
    endings=JOB_ENDINGS,
)
