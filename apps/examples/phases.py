"""The example: a run, then its export, then its deployment, each begun when the one before has ended well."""

from apps.core.phases import JOB_ENDINGS, Phase, Phases, job_endings

EXAMPLE_PHASES = Phases(
    Phase("training", "Training", "run", to=("exporting",)),
    Phase("exporting", "Exporting", "run", to=("deploying",)),
    Phase("deploying", "Deploying", "run"),
    *job_endings(),
    endings=JOB_ENDINGS,
)
