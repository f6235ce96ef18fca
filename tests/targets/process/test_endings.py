"""How a job ended is told in words that help."""

from __future__ import annotations

import json
import signal

import pytest

from workers.targets.contract import Grants
from workers.targets.process import target

MIB = 1024**2
EATS = "import sys\nkept = []\nfor _ in range(400):\n    kept.append(bytearray(1024 * 1024))\nprint('survived')"


def test_well(host):
    seen = host.run("print('done')")
    assert (seen.exit.code, seen.exit.signal, seen.exit.reason) == (0, None, "ok")
    assert seen.ranks[0].state == "exited"
    assert {"accepted", "started", "exited"} <= set(seen.times)


def test_exit_code_with_the_last_line(kept, host):
    exit = host.run("import sys; print('No GPU here.'); sys.exit(3)").exit
    assert (exit.code, exit.signal, exit.reason) == (3, None, "error")
    assert exit.message == (
        "The program ended with exit code 3; its last line was “No GPU here.” A program that goes well ends with 0."
    )


def test_a_script_that_fails_at_import(kept, host):
    script = b"# A script\n\n\n\n\n\nimport albumentations\n"
    item, grant = host.input("script.py", script)
    workload = host.job("", inputs=(item,))
    workload = type(workload)(**{**workload.__dict__, "argv": ("python", "-S", "in/script.py")})
    host.apply(workload, grants=Grants({"script.py": grant}))
    exit = host.ended().exit
    assert exit.message.startswith("Your script stopped at line 7: no module named `albumentations`. ")


@pytest.mark.parametrize(
    ("number", "reason", "says"),
    [
        (signal.SIGKILL, "killed", "killed by signal 9 (SIGKILL)"),
        (signal.SIGSEGV, "error", "crashed with signal 11"),
    ],
)
def test_signal(kept, host, number, reason, says):
    exit = host.run(f"import os; os.kill(os.getpid(), {int(number)})").exit
    assert (exit.code, exit.signal, exit.reason) == (None, int(number), reason)
    assert says in exit.message


def test_the_program_names_its_own_failure(kept, host):
    told = {"failure": "Diverged", "message": "The loss became NaN at step 412. Lower the learning rate."}
    exit = host.run(f"import sys; open('out/failure.json', 'w').write({json.dumps(told)!r}); sys.exit(1)").exit
    assert (exit.reason, exit.failure, exit.message) == ("error", told["failure"], told["message"])


def test_a_failure_file_that_is_a_link_is_not_read(host):
    exit = host.run("import os, sys; os.symlink('/etc/hostname', 'out/failure.json'); sys.exit(1)").exit
    assert exit.failure == "" and exit.message.startswith("The program ended with exit code 1 and said nothing.")


def test_deadline(kept, host):
    exit = host.run("import time; time.sleep(600)", deadline_seconds=0.3).exit
    assert exit.reason == "deadline"
    assert exit.message == (
        "It was stopped after 0.3 seconds, the longest that it may take. Give it more time, or less to do."
    )


def test_memory(kept, host, resources):
    exit = host.run(EATS, resources=resources(memory_bytes=64 * MIB)).exit
    assert exit.reason == "oom"
    assert exit.message.startswith("It needed more memory than the 64 MiB that it has. Give it more, such as 128 MiB")


def test_memory_is_watched_where_no_control_group_can_be_made(kept, host, resources, monkeypatch):
    without_groups = (
        "import sys; from workers.targets.process import limits, shim; limits._own_groups = dict; "
        "shim.main(sys.argv[1:])"
    )
    monkeypatch.setattr(target, "SHIM", ("-S", "-E", "-c", without_groups))
    exit = host.run(f"{EATS}\nimport time\ntime.sleep(30)", resources=resources(memory_bytes=64 * MIB)).exit
    assert (exit.reason, exit.signal) == ("oom", 9)


@pytest.mark.parametrize("place", ["out", "tmp"])
def test_disk(kept, host, resources, place):
    script = f"""
import os, time
folder = {{"out": os.environ["WINDLASS_OUT"], "tmp": os.environ["TMPDIR"]}}[{place!r}]
for number in range(8):
    open(f"{{folder}}/{{number}}", "wb").write(b"x" * 4_000_000)
time.sleep(30)
"""
    exit = host.run(script, resources=resources(disk_bytes=20 * MIB)).exit
    assert (exit.reason, exit.failure) == ("error", "DiskFull")
    assert "may be 20 MiB in all" in exit.message


def test_a_single_file_can_not_pass_the_limit_between_two_looks(host, resources):
    exit = host.run("open('out/a', 'wb').write(bytes(30_000_000))", resources=resources(disk_bytes=20 * MIB)).exit
    assert (exit.reason, exit.failure) == ("error", "DiskFull")


def test_a_program_that_can_not_be_started(kept, host):
    workload = host.job("")
    host.apply(type(workload)(**{**workload.__dict__, "argv": ("no-such-program",)}))
    exit = host.ended().exit
    assert exit.reason == "error"
    assert "no-such-program" in exit.message
