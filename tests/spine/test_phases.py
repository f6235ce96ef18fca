"""The phases tables are the law: steps keep to them, and every ending can be reached from everywhere."""

import pytest

from apps.core.models import Managed
from apps.core.phases import CLEANING, DELETED, IllegalTransition, Phase, Phases
from apps.core.wants import models_by_kind
from workers.engine import Context, Outcome, next_outcome
from workers.reconcilers import RECONCILERS

KINDS = sorted(models_by_kind())


@pytest.mark.parametrize("kind", KINDS)
def test_every_phase_that_is_not_final_has_a_step(kind: str) -> None:
    phases = models_by_kind()[kind].phases
    assert {name for name, phase in phases.items() if not phase.final} <= set(RECONCILERS[kind].steps)


@pytest.mark.parametrize("kind", KINDS)
def test_delete_leads_from_everywhere_to_cleaning_and_from_there_to_deleted(kind: str) -> None:
    model = models_by_kind()[kind]
    for name in model.phases:
        if name == DELETED:
            continue
        row: Managed = model(phase=name, goal="delete")
        outcome = next_outcome(RECONCILERS[kind], row, Context(None))  # type: ignore[arg-type]
        assert (outcome.phase, outcome.ending) == (CLEANING, DELETED)
        assert model.phases.allows(name, CLEANING)
    assert model.phases.allows(CLEANING, DELETED)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "cancelled" in models_by_kind()[kind].phases])
def test_stop_leads_a_job_from_everywhere_to_cancelled(kind: str) -> None:
    model = models_by_kind()[kind]
    for name, phase in model.phases.items():
        if phase.final or name == CLEANING:
            continue
        outcome = next_outcome(RECONCILERS[kind], model(phase=name, goal="stop"), Context(None))  # type: ignore[arg-type]
        assert isinstance(outcome, Outcome)
        assert (outcome.phase, outcome.ending) == (CLEANING, "cancelled")


@pytest.mark.parametrize("kind", KINDS)
def test_every_phase_can_be_reached_and_left(kind: str) -> None:
    phases = models_by_kind()[kind].phases
    reached, frontier = {phases.initial}, [phases.initial]
    while frontier:
        name = frontier.pop()
        after = set(phases[name].to) | ({CLEANING} if not phases[name].final else set())
        frontier += after - reached
        reached |= after
    assert reached == set(phases)


def test_a_table_refuses_what_it_does_not_declare() -> None:
    phases = Phases(Phase("a", "A", "ok", to=("b",)), Phase("b", "B", "ok"), endings=())
    phases.check("a", "b")
    with pytest.raises(IllegalTransition):
        phases.check("b", "a")
    with pytest.raises(ValueError, match="undeclared"):
        Phases(Phase("a", "A", "ok", to=("c",)), endings=())
