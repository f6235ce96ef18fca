"""A job's pod: what its programs make of one another, as plain processes in one folder."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from pathlib import Path

import pytest

from tests.kubernetes.conftest import PodFolder, until
from workers.targets.contract import Grants
from workers.targets.kubernetes.pod.folders import OUTPUT_BYTES, Pod

COPY = """
import json, os
out, given = os.environ["WINDLASS_OUT"], os.environ
with open(given["WINDLASS_METRICS"], "a") as metrics:
    for step in (1, 2):
        metrics.write(json.dumps({"step": step}) + "\\n")
token = open(given["WINDLASS_SECRETS"] + "/token").read()
open(out + "/model", "w").write(open(given["WINDLASS_DATA"]).read() + token)
inputs = os.listdir(given["WINDLASS_IN"])
print("rank", given["WINDLASS_NODE_RANK"], "at", given["WINDLASS_ADDRESS"], inputs, os.getcwd())
"""


def test_inputs_come_in_and_outputs_go_out(pod: PodFolder) -> None:
    data, reading = pod.input("data", b"numbers and ")
    model, writing = pod.output("model")
    pod.environment = {"WINDLASS_ADDRESS": "10.1.2.3", "WINDLASS_NODE_RANK": "0"}
    grants = Grants({"data": reading}, {"model": writing})
    pod.job(COPY, grants=grants, secrets={"token": b"a secret"}, inputs=(data,), outputs=(model,))
    assert pod.all() == (0, 0), pod.log("run") + pod.log("accompany")
    content = b"numbers and a secret"
    assert pod.stored("model") == content
    kept = {"model": {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}}
    assert pod.said("accompany") == {"outputs": kept}
    assert pod.said("run")["reason"] == "ok"
    assert pod.log("accompany") == '{"step": 1}\n{"step": 2}\n', "its log is the figures and nothing else"
    assert f"rank 0 at 10.1.2.3 ['data'] {pod.work}" in pod.log("run")
    assert not list(pod.work.rglob("grants.json")), "the program must never see what gives rights"


def test_only_the_first_node_carries_out(pod: PodFolder) -> None:
    model, writing = pod.output("model")
    pod.environment = {"WINDLASS_NODE_RANK": "1"}
    pod.job("print('second')", grants=Grants({}, {"model": writing}), outputs=(model,), nodes=2)
    assert pod.all() == (0, 0)
    assert pod.said("accompany") == {"outputs": {}}
    assert not (pod.directory / "blobs" / "model").exists()


def test_a_damaged_input_is_told_before_anything_runs(pod: PodFolder) -> None:
    data, reading = pod.input("data", b"numbers")
    (pod.directory / "blobs" / "data" / "0").write_bytes(b"x" * 40)
    pod.job("pass", grants=Grants({"data": reading}), inputs=(data,))
    assert pod.start("carry-in").wait(20) == 1
    assert pod.said("carry-in")["failure"] == "InputDamaged"
    assert "is damaged in storage" in pod.log("carry-in")


def test_a_missing_output_fails_a_job_that_went_well(pod: PodFolder) -> None:
    model, writing = pod.output("model")
    pod.job("pass", grants=Grants({}, {"model": writing}), outputs=(model,))
    assert pod.all() == (0, 1)
    assert pod.said("accompany")["failure"] == "OutputMissing"


@pytest.mark.parametrize(
    ("script", "code", "reason", "message"),
    [
        ("raise ValueError('seven is no digit')", 1, "error", "ValueError: seven is no digit"),
        ("import sys; print('so far'); sys.exit(3)", 3, "error", "its last line was “so far”"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "killed", "signal 9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "error", "SIGSEGV"),
        ("import time; time.sleep(60)", 143, "deadline", "the longest that it may take"),
    ],
)
def test_how_it_ended_is_told_in_words(pod: PodFolder, script: str, code: int, reason: str, message: str) -> None:
    pod.job(script, deadline_seconds=1.0 if reason == "deadline" else None)
    assert pod.all() == (code, 0)
    told = pod.said("run")
    assert told["reason"] == reason
    assert message in told["message"]


def test_the_programs_own_failure_is_told(pod: PodFolder) -> None:
    told = json.dumps({"failure": "Diverged", "message": "The loss is not a number."})
    pod.job(f"import os, sys; open(os.environ['WINDLASS_OUT'] + '/failure.json', 'w').write({told!r}); sys.exit(1)")
    assert pod.all() == (1, 0)
    assert (pod.said("run")["failure"], pod.said("run")["message"]) == ("Diverged", "The loss is not a number.")


def test_a_program_that_is_not_there(pod: PodFolder) -> None:
    pod.job("pass")
    ordered = json.loads((pod.secret / "workload.json").read_text()) | {"argv": ["no-such-program"]}
    (pod.secret / "workload.json").write_text(json.dumps(ordered))
    assert pod.all() == (1, 0)
    assert pod.said("run")["failure"] == "ProgramNotStarted"


STOPPABLE = """
import os, signal, sys, time
def stop(*_):
    os.makedirs(os.environ["WINDLASS_OUT"] + "/checkpoint")
    open(os.environ["WINDLASS_OUT"] + "/checkpoint/step", "w").write("7")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(60)
"""


def test_a_stop_keeps_the_checkpoint(pod: PodFolder) -> None:
    """Kubernetes sends SIGTERM to both containers at once."""
    checkpoint, writing = pod.output("checkpoint", shape="tree", required=False, always=True)
    model, _unused = pod.output("model")
    pod.job(STOPPABLE, grants=Grants({}, {"checkpoint": writing, "model": _unused}), outputs=(checkpoint, model))
    assert pod.start("carry-in").wait(20) == 0
    companion, program = pod.start("accompany"), pod.start("run")
    until(lambda: "up" in pod.log("run"))
    for process in (companion, program):
        process.send_signal(signal.SIGTERM)
    assert (program.wait(20), companion.wait(20)) == (143, 0)
    assert pod.said("run")["reason"] == "killed"
    assert list(pod.said("accompany")["outputs"]) == ["checkpoint"]
    assert b"step" in pod.stored("checkpoint")


def test_a_program_that_will_not_stop_is_killed_after_its_grace(pod: PodFolder) -> None:
    pod.job(
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)",
        grace_seconds=0.5,
    )
    assert pod.start("carry-in").wait(20) == 0
    program = pod.start("run")
    until(lambda: "up" in pod.log("run"))
    program.send_signal(signal.SIGTERM)
    assert program.wait(10) == 137


def test_the_checkpoint_is_kept_where_the_whole_container_is_killed(pod: PodFolder) -> None:
    """As the kernel does for want of memory: nobody is left there to say how it ended."""
    checkpoint, writing = pod.output("checkpoint", required=False, always=True)
    pod.job(
        "import os, time; open(os.environ['WINDLASS_OUT'] + '/checkpoint', 'w').write('7')\n"
        "print('up', flush=True); time.sleep(60)",
        grants=Grants({}, {"checkpoint": writing}),
        outputs=(checkpoint,),
    )
    assert pod.start("carry-in").wait(20) == 0
    companion, program = pod.start("accompany"), pod.start("run")
    until(lambda: "up" in pod.log("run"))
    program.kill()
    assert companion.wait(20) == 0
    assert pod.stored("checkpoint") == b"7"


def test_a_companion_that_comes_late_learns_that_the_container_was_killed(pod: PodFolder) -> None:
    pod.job("print('up', flush=True); import time; time.sleep(60)")
    assert pod.start("carry-in").wait(20) == 0
    program = pod.start("run")
    until(lambda: "up" in pod.log("run"))
    program.kill()
    assert pod.start("accompany").wait(20) == 0


def test_what_it_leaves_running_ends_with_it(pod: PodFolder) -> None:
    left = (
        "import os, subprocess; p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid, flush=True)"
    )
    pod.job(left)
    assert pod.all() == (0, 0)
    pid = int(pod.log("run").split()[1])
    assert not Path(f"/proc/{pid}").exists()


def test_a_log_stops_before_kubernetes_would_turn_it_over(pod: PodFolder) -> None:
    pod.job("for _ in range(12): print(('x' * 1023 + '\\n') * 1024, flush=True)")
    assert pod.all() == (0, 0)
    log = pod.log("run")
    assert OUTPUT_BYTES - 100_000 < len(log) < OUTPUT_BYTES
    assert "has reached 8 MiB" in log.splitlines()[-1]


def test_last_words_are_never_longer_than_are_kept(tmp_path: Path) -> None:
    pod = Pod(tmp_path, tmp_path, tmp_path / "said")
    pod.tell({"reason": "error", "message": "ü" * 4000})
    said = (tmp_path / "said").read_bytes()
    assert len(said) <= 4096
    assert json.loads(said)["message"].startswith("üü")


def test_it_needs_no_django(pod: PodFolder) -> None:
    seen = pod.directory / "seen"
    pod.job("pass")
    source = "import sys; import workers.targets.kubernetes.pod.running, workers.targets.kubernetes.pod.companion, "
    source += f"workers.targets.kubernetes.pod.carrying; open({str(seen)!r}, 'w').write(str('django' in sys.modules))"
    import subprocess

    subprocess.run([sys.executable, "-c", source], check=True, cwd=Path(__file__).parents[2])
    assert seen.read_text() == "False"
