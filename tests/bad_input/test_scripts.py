"""Scripts that go wrong, each in its own way: the run says what, why and what to do, and nothing of them is left."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from apps.placements.workload import Resources
from apps.registry.models import ModelVersion
from apps.training.models import MetricPoint, TrainingRun
from tests.bad_input.conftest import MIB, World
from workers.reconcilers import training

NO_MODEL = "It ended well, but left no model: neither model.safetensors nor reference.onnx is in WINDLASS_OUT. "
DISK = "what it writes to WINDLASS_OUT and TMPDIR may be 20 MiB in all. Write less, or remove what is no longer needed."
OUT = "import json, os, time\nout = os.environ['WINDLASS_OUT']\n"

# By name: the script, then the phase, reason and message in which its run ends.
SCRIPTS: dict[str, tuple[str, str, str, str]] = {
    "fails at import": (
        "# My training\n\n\n\n\n\nimport albumentations\n",
        "failed",
        "ProgramFailed",
        "Your script stopped at line 7: no module named `albumentations`. It is not installed where scripts run. "
        "Remove the import, or use what is there: torch, numpy, safetensors, onnx, onnxruntime and sklearn.",
    ),
    "raises": (
        "def train():\n    raise ValueError('seven is not a digit')\n\n\ntrain()\n",
        "failed",
        "ProgramFailed",
        "Your script stopped at line 2: ValueError: seven is not a digit. Its log shows how it came there.",
    ),
    "exits 3": (
        "import sys\nprint('No GPU here.')\nsys.exit(3)\n",
        "failed",
        "ProgramFailed",
        "Your script ended with exit code 3; its last line was “No GPU here.” A program that goes well ends with 0.",
    ),
    "is killed each time": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "failed",
        "AttemptsExhausted",
        "It was interrupted 3 times in a row before it got anywhere. The last time: Your script was killed by signal 9 "
        "(SIGKILL). Its log may tell why; where memory is short, ask for less at once. Then start it again.",
    ),
    "crashes": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
        "failed",
        "ProgramFailed",
        "Your script crashed with signal 11 (SIGSEGV): native code failed, often that of a library. Its log shows how "
        "far it came.",
    ),
    "fills the disk": (
        f"{OUT}for n in range(8):\n    open(f'{{out}}/{{n}}', 'wb').write(bytes(4_000_000))\ntime.sleep(60)\n",
        "failed",
        "DiskFull",
        f"It was stopped because its disk is full: {DISK}",
    ),
    "writes a file that is too large": (
        f"{OUT}open(out + '/large', 'wb').write(bytes(30_000_000))\n",
        "failed",
        "DiskFull",
        f"Your script stopped at line 3: its disk is full: {DISK}",
    ),
    "eats memory": (
        "kept = bytearray(400 * 1024**2)\nfor n in range(0, len(kept), 4096):\n    kept[n] = 1\ninput()\n",
        "failed",
        "OutOfMemory",
        "It needed more memory than the 256 MiB that it has. Give it more, such as 512 MiB, or smaller batches.",
    ),
    "forks away": (
        f"{OUT}if os.fork():\n    os._exit(0)\nos.setsid()\nif os.fork():\n    os._exit(0)\ntime.sleep(600)\n",
        "succeeded",
        "NoModel",
        f"{NO_MODEL}Write one of them before the script ends; what it leaves running in the background ends with it.",
    ),
    "writes no model and no end of its line": (
        "import sys\nsys.stdout.write('half a line')\n",
        "succeeded",
        "NoModel",
        f"{NO_MODEL}Write one of them before the script ends; what it leaves running in the background ends with it.",
    ),
    "leaves a link": (
        f"{OUT}os.symlink('/etc/passwd', out + '/model.safetensors')\n",
        "failed",
        "OutputRefused",
        "“model.safetensors” can't be kept: it is no plain file. Write the file itself there, not a link.",
    ),
    "leaves a link in a folder": (
        f"{OUT}open(out + '/model.safetensors', 'w').write('whole')\nos.mkdir(out + '/checkpoint')\n"
        "os.symlink('/etc/passwd', out + '/checkpoint/weights')\n",
        "failed",
        "OutputRefused",
        "“checkpoint” can't be kept: “weights” in it is no plain file. Write the file itself there, not a link.",
    ),
    "names its output ../x": (
        f"{OUT}open(out + '/../model.safetensors', 'w').write('outside')\n",
        "succeeded",
        "NoModel",
        f"{NO_MODEL}Write one of them before the script ends; what it leaves running in the background ends with it.",
    ),
    "prints what no text may hold": (
        "import sys\nprint('\\0 half of it')\nsys.exit(5)\n",
        "failed",
        "ProgramFailed",
        "Your script ended with exit code 5; its last line was “half of it”. A program that goes well ends with 0.",
    ),
    "fails in words that no text may hold": (
        f"{OUT}json.dump({{'failure': 'Odd', 'message': 'It is \\0odd\\ud800.'}}, open(out + '/failure.json', 'w'))\n"
        "os._exit(1)\n",
        "failed",
        "Odd",
        "It is odd?.",
    ),
    "measures rubbish": (
        f"""{OUT}metrics = open(os.environ["WINDLASS_METRICS"], "w")
for line in (
    '{{"step": 1, "loss": 0.5, "time": 1e300}}',
    '{{"step": 99999999999999999999, "loss": 1}}',
    '{{"step": true, "loss": 1}}',
    '{{"step": 2, "total_steps": 4, "loss": NaN, "a\\\\u0000": 3, "huge": 1' + "0" * 400 + ', "accuracy": 0.9}}',
    "[" * 100_000,
    "no JSON",
):
    print(line, file=metrics)
open(out + "/model.safetensors", "w").write("whole")
open(out + "/metrics.json", "w").write('{{"loss": NaN, "held_out_accuracy": 1e999, "a": "\\\\u0000 \\\\ud800"}}')
open(out + "/signature.json", "w").write("[" * 100_000)
""",
        "succeeded",
        "Trained",
        "It ended well.",
    ),
}


@pytest.fixture(scope="module")
def runs(world: World) -> dict[str, TrainingRun]:
    """All at once, since they mostly wait: by name, each as it is when all have ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Resources", partial(Resources, disk_bytes=20 * MIB))
        started = {name: world.start(script) for name, (script, *_) in SCRIPTS.items()}
        world.until(lambda: not TrainingRun.objects.exclude(phase__in=TrainingRun.phases.final).exists(), 80)
    return started


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that(world: World, runs: dict[str, TrainingRun], name: str) -> None:
    told = world.told(runs[name])
    assert (told["phase"], told["reason"], told["message"]) == SCRIPTS[name][1:]


def test_nothing_is_left_of_them_and_the_next_works(world: World, runs: dict[str, TrainingRun]) -> None:
    world.nothing_left()
    assert not list(world.directory.rglob("model.safetensors")), "beside WINDLASS_OUT nothing is kept"
    world.goes_on()


def test_the_last_line_is_kept_without_an_end(world: World, runs: dict[str, TrainingRun]) -> None:
    assert world.log(runs["writes no model and no end of its line"]).endswith(" half a line\n")


def test_of_rubbish_the_numbers_are_kept(world: World, runs: dict[str, TrainingRun]) -> None:
    run = runs["measures rubbish"]
    points: dict[str, Any] = world.api.get(f"training-runs/{run.typed_id}/metrics").json()
    assert {name: lists["values"] for name, lists in points["series"].items()} == {
        "loss": [0.5],
        "a": [3.0],
        "accuracy": [0.9],
    }
    assert (points["step"], points["total_steps"]) == (2, 4)
    assert MetricPoint.objects.filter(run=run).count() == 3
    version = ModelVersion.objects.get(run=run)
    assert version.metrics == {}
    assert version.signature == {}
    json.dumps(world.api.get(f"model-versions/{version.typed_id}").json(), allow_nan=False)
