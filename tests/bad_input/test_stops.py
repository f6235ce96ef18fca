"""A script that does not heed a stop, and one that there is no cage for."""

from __future__ import annotations

import pytest
from django.test import override_settings

from apps.core import ids
from apps.training.models import TrainingRun
from tests.bad_input.conftest import GOOD, World
from workers import host, targets
from workers.reconcilers import training
from workers.targets.process import cage

DEAF = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(600)\n"
)


def test_a_script_that_ignores_a_stop_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "GRACE_SECONDS", 0.5)
    run = world.start(DEAF)
    world.phase(run, "training")
    world.until(lambda: "deaf" in world.log(run))
    answer = world.api.post(f"training-runs/{run.typed_id}/cancel")
    assert (answer.status_code, answer.json()["goal"]) == (202, "stop")
    told = world.end(run)
    assert (told["phase"], told["reason"]) == ("cancelled", "Cancelled")
    assert told["message"] == "Cancelled. It had no checkpoint yet."
    world.nothing_left()
    world.goes_on()


def test_where_there_is_no_cage_a_script_is_refused_with_the_way_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = world.upload(GOOD.encode())
    with override_settings(WINDLASS_ALLOW_UNCAGED_SCRIPTS=False), monkeypatch.context() as patch:
        patch.setattr(targets.this_host(), "_allow_uncaged", False)
        run = world.start(GOOD) if cage.caged() else None
        patch.setattr(cage, "_installed", lambda: "")
        if run:  # it was accepted before the cage went
            told = world.end(run)
            assert (told["phase"], told["reason"]) == ("failed", "NoCage")
            assert told["message"].startswith("Programs are not kept apart on this host: bubblewrap is not installed.")
            assert told["message"].endswith("and start Windlass again. Until then, use a recipe.")
        host.register_host()
        refused = world.api.post("training-runs", {"model": "bad", "script": script})
        assert (refused.status_code, refused.json()["code"]) == (422, "ValidationFailed")
        (error,) = refused.json()["errors"]
        assert error["field"] == "script"
        assert "bubblewrap is not installed" in error["detail"] and "apt-get install bubblewrap" in error["detail"]
        assert error["fix"] == "Until then, use a recipe."
    host.register_host()
    world.nothing_left()
    accepted = world.api.post("training-runs", {"model": "bad", "script": script})
    assert accepted.status_code == 201
    run = TrainingRun.objects.get(pk=ids.parse(TrainingRun.prefix, accepted.json()["id"]))
    assert world.end(run)["phase"] == "succeeded"


def test_what_can_never_fit_says_so_while_it_waits(world: World) -> None:
    run = world.start(GOOD, processes=64)
    world.until(lambda: world.told(run)["reason"] == "NoCapacity")
    told = world.told(run)
    assert told["phase"] == "queued"
    assert told["message"].startswith("Waiting for capacity: ")
    assert told["message"].endswith(" has 16 processors in all, 32 are needed: ask for less, or add a host.")
    world.api.post(f"training-runs/{run.typed_id}/cancel")
    assert world.end(run)["phase"] == "cancelled"
    world.goes_on()
