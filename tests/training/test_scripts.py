"""Scripts that people bring: the documented example works, and how a bad one ended can be told."""

from __future__ import annotations

import json
import re
import time

import onnxruntime
import pytest

from tests.training.conftest import ROOT, Run


def write_script(run: Run, content: str) -> str:
    (run.directory / "in").mkdir(exist_ok=True)
    (run.directory / "in" / "script.py").write_text(content)
    return "in/script.py"


def test_the_documented_example_makes_a_model(run: Run):
    page = (ROOT / "docs" / "user-guide-training-scripts.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = run.start(2, write_script(run, example), steps=120)
    assert program.wait(90) == 0, run.log
    assert run.metrics[-1]["step"] == run.metrics[-1]["total_steps"] == 120
    assert json.loads((run.out / "metrics.json").read_text())["held_out_accuracy"] > 0.9
    session = onnxruntime.InferenceSession(run.out / "reference.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [1, 8, 8]


@pytest.mark.parametrize(
    ("script", "code", "last_line"),
    [
        ("import sys; sys.exit(3)", 3, "Rank 0 ended with exit code 3; its last lines are above."),
        ("import os; os.kill(os.getpid(), 9)", 137, "Rank 0 was killed by SIGKILL; its last lines are above."),
        ("import no_such_package", 1, "Rank 0 ended with exit code 1; its last lines are above."),
    ],
)
def test_the_exit_code_is_that_of_the_script(run: Run, script: str, code: int, last_line: str):
    assert run.start(1, write_script(run, script)).wait(60) == code
    assert run.log.splitlines()[-1] == last_line


def test_a_script_that_heeds_a_stop_ends_with_nothing_left(run: Run):
    script = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: exit(0))\nprint('up')\ntime.sleep(600)"
    program = run.start(2, write_script(run, script))
    run.wait_for(lambda: run.log.count("up") == 2)
    program.terminate()
    began = time.monotonic()
    assert program.wait(40) == 143
    assert time.monotonic() - began < 10
    assert run.ranks() == []
