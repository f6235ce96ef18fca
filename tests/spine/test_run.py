"""A training run from a row to a model version, with a tiny program in torchrun's place."""

import json

import pytest
from django.test import Client

from apps.accounts.models import Membership, User, Workspace
from apps.core.actor import WINDLASS
from apps.core.models import Event
from apps.core.wants import create, want
from apps.placements.models import LogChunk, Placement, PlacementBlob, Reservation
from apps.registry import blobs
from apps.registry.models import Model
from apps.training.models import MetricPoint, TrainingRun
from tests.spine.conftest import World

TRAIN = """
import json, os, time
out = os.environ["WINDLASS_OUT"]
with open(os.environ["WINDLASS_METRICS"], "a") as metrics:
    for step in (1, 2, 3):
        metrics.write(json.dumps({"step": step, "total_steps": 3, "time": time.time(), "loss": 1 / step}) + "\\n")
print("hello from the program", flush=True)
for name in ("model.safetensors", "config.json", "reference.onnx", "signature.json"):
    open(os.path.join(out, name), "w").write("{}")
open(os.path.join(out, "metrics.json"), "w").write(json.dumps({"held_out_accuracy": 0.98}))
"""
WAIT = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch):
    def use(source: str) -> None:
        monkeypatch.setattr("workers.reconcilers.training.torchrun", lambda run, processes: ("python", "-c", source))

    return use


def make_run(workspace: Workspace) -> TrainingRun:
    model, _made = Model.objects.get_or_create(workspace=workspace, name="digits")
    number = TrainingRun.objects.count() + 1
    return create(TrainingRun(workspace=workspace, name="digits", number=number, model=model, processes=1), WINDLASS)


def nothing_left(world: World) -> None:
    assert Reservation.objects.count() == 0
    from workers import targets

    assert list(targets.this_host().list_owned(None)) == []


def test_a_run_becomes_a_model_version(world: World, workspace: Workspace, program) -> None:
    program(TRAIN)
    run = make_run(workspace)
    world.phase(run, "succeeded", "failed")
    assert (run.phase, run.reason) == ("succeeded", "Trained"), run.message
    assert run.result is not None
    assert run.result.metrics == {"held_out_accuracy": 0.98}
    assert sorted(item.name for item in run.result.files.all())[0] == "config.json"
    assert b"".join(blobs.read(run.result.file("config.json"))) == b"{}"
    assert [(point.step, point.value) for point in MetricPoint.objects.order_by("step")] == [
        (1, 1),
        (2, 0.5),
        (3, 1 / 3),
    ]
    assert (run.step, run.total_steps, run.metrics["loss"]) == (3, 3, pytest.approx(1 / 3))
    log = b"".join(bytes(chunk.data) for chunk in LogChunk.objects.filter(stream="0"))
    assert b"hello from the program" in log
    nothing_left(world)
    assert not PlacementBlob.objects.exists(), "what it read and made is held by whose it is, and by nobody else"
    phases = list(Event.objects.filter(kind="training_run").order_by("pk").values_list("new", flat=True))
    assert phases[0] == "queued"
    assert phases[-2:] == ["cleaning", "succeeded"]


@pytest.mark.parametrize(
    ("signature", "metrics"),
    [
        ('{"inputs": [1], "outputs": []}', '{"held_out_accuracy": "good", "loss": [1], "steps": 3}'),
        ('{"inputs": [], "outputs": [], "classes": 5}', '{"steps": 3, "held_out_accuracy": {}}'),
        ('{"inputs": [{"name": "x", "datatype": [], "shape": ["a"]}], "outputs": []}', '{"steps": 3, "": 1}'),
        ('{"inputs": [], "outputs": [], "normalise": {"scale": "big"}}', '{"steps": 3, "huge": 1%s}' % ("0" * 400)),
        ('{"inputs": {}, "outputs": [], "task": 7}', '{"steps": 3, "held_out_accuracy": true}'),
    ],
)
def test_files_of_any_shape_break_no_page(
    world: World, workspace: Workspace, program, signature: str, metrics: str
) -> None:
    program(
        "import os\nout = os.environ['WINDLASS_OUT'] + '/'\n"
        "for name in ('model.safetensors', 'config.json', 'reference.onnx'): open(out + name, 'w').write('{}')\n"
        f"open(out + 'signature.json', 'w').write({signature!r})\nopen(out + 'metrics.json', 'w').write({metrics!r})"
    )
    run = make_run(workspace)
    world.phase(run, "succeeded", "failed")
    assert run.result is not None, run.message
    assert (run.result.signature, run.result.metrics) == ({}, {"steps": 3})
    user = User.objects.create_user("ada@example.org")
    Membership.objects.create(user=user, workspace=workspace)
    browser = Client()
    browser.force_login(user)
    for path in ("models/", f"models/{run.result.typed_id}/", f"models/{run.model.typed_id}/", ""):
        assert browser.get(f"/w/team/{path}").status_code == 200


def test_a_program_that_raises_fails_the_run_with_its_words(world: World, workspace: Workspace, program) -> None:
    program("raise ValueError('seven is not a digit')")
    run = make_run(workspace)
    world.phase(run, "succeeded", "failed")
    assert run.phase == "failed"
    assert "seven is not a digit" in run.message
    assert run.attempt == 1
    nothing_left(world)


def test_cancel_stops_the_program_and_frees_the_place(world: World, workspace: Workspace, program) -> None:
    program(WAIT)
    run = make_run(workspace)
    world.phase(run, "training")
    want(run, WINDLASS, goal="stop")
    world.phase(run, "cancelled")
    assert run.ended_at is not None
    nothing_left(world)


@pytest.mark.parametrize("phase", ["queued", "starting", "training", "cleaning", "succeeded"])
def test_delete_at_every_phase_leaves_nothing(world: World, workspace: Workspace, program, phase: str) -> None:
    program(TRAIN if phase in {"cleaning", "succeeded"} else WAIT)
    run = make_run(workspace)
    world.phase(run, phase)
    want(run, WINDLASS, goal="delete")
    world.phase(run, "deleted")
    nothing_left(world)
    assert set(Placement.objects.filter(owner_id=run.pk).values_list("phase", flat=True)) <= {"deleted"}
    assert PlacementBlob.objects.count() == 0
    assert MetricPoint.objects.count() == 0


def test_a_killed_program_is_tried_again_with_its_checkpoint(world: World, workspace: Workspace, program) -> None:
    program(
        "import os, signal\n"
        "resumed = os.path.exists(os.path.join(os.environ['WINDLASS_IN'], 'checkpoint', 'step'))\n"
        "os.makedirs(os.path.join(os.environ['WINDLASS_OUT'], 'checkpoint'), exist_ok=True)\n"
        "open(os.path.join(os.environ['WINDLASS_OUT'], 'checkpoint', 'step'), 'w').write('2')\n"
        "if not resumed: os.kill(os.getpid(), signal.SIGKILL)\n" + TRAIN
    )
    run = make_run(workspace)
    world.phase(run, "succeeded", "failed")
    assert (run.phase, run.attempt) == ("succeeded", 2), run.message
    assert run.checkpoint is not None
    nothing_left(world)


def test_three_fruitless_attempts_end_it(world: World, workspace: Workspace, program) -> None:
    program("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    run = make_run(workspace)
    world.phase(run, "succeeded", "failed", timeout_seconds=60)
    assert (run.phase, run.reason, run.attempt) == ("failed", "AttemptsExhausted", 3), run.message
    nothing_left(world)


def test_what_does_not_fit_waits_and_says_why(world: World, workspace: Workspace, program) -> None:
    program(TRAIN)
    run = make_run(workspace)
    TrainingRun.objects.update(memory_bytes_per_process=2**50)
    world.until(lambda: TrainingRun.objects.get().reason == "NoCapacity")
    run.refresh_from_db()
    assert "are needed" in run.message
    assert run.phase == "queued"


def test_a_hyperparameter_document_reaches_the_program(world: World, workspace: Workspace, program) -> None:
    program("import os; print(os.environ['WINDLASS_HYPERPARAMETERS'])")
    run = make_run(workspace)
    TrainingRun.objects.update(hyperparameters={"seed": 3})
    world.phase(run, "succeeded", "failed")
    log = b"".join(bytes(chunk.data) for chunk in LogChunk.objects.filter(stream="0"))
    assert json.loads(log.split(b" ", 1)[1]) == {"seed": 3, "recipe": ""}
