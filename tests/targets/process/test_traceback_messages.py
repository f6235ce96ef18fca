"""Of all the lines of a log, the one that says why."""

from __future__ import annotations

import pytest

from workers.targets.process.endings import Limits, explain, last_line, traceback_message

TORCHRUN = """
[rank1]: Traceback (most recent call last):
[rank1]:   File "/workload/in/train.py", line 31, in <module>
[rank1]:     main()
[rank1]:   File "/usr/lib/python3/site-packages/torch/nn/linear.py", line 125, in forward
[rank1]:     return F.linear(input, self.weight, self.bias)
[rank1]: RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x64 and 32x10)
[rank0]: Traceback (most recent call last):
[rank0]:   File "/workload/in/train.py", line 40, in <module>
[rank0]: RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer
E1125 01:02:03.000000 12 torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: 1)
Traceback (most recent call last):
  File "/usr/lib/python3/runpy.py", line 198, in _run_module_as_main
  File "/usr/lib/python3/site-packages/torch/distributed/run.py", line 900, in run
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
"""


def test_the_rank_that_fell_first_is_told():
    assert traceback_message(TORCHRUN.splitlines()) == (
        "Your script stopped at line 31",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x64 and 32x10)",
    )


def test_the_last_of_a_chain_is_told():
    lines = """Traceback (most recent call last):
  File "/workload/in/a.py", line 2, in <module>
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/workload/in/a.py", line 4, in <module>
ValueError: bad input""".splitlines()
    assert traceback_message(lines) == ("Your script stopped at line 4", "ValueError: bad input")


def test_a_syntax_error_has_no_traceback_line():
    lines = """  File "/workload/in/a.py", line 3
    for x in
            ^
SyntaxError: invalid syntax""".splitlines()
    assert traceback_message(lines) == ("Your script stopped at line 3", "SyntaxError: invalid syntax")


def test_a_program_of_ours_is_not_called_your_script():
    lines = """Traceback (most recent call last):
  File "/srv/windlass/workers/training/data_parallel.py", line 77, in <module>
ValueError: there is no dataset""".splitlines()
    stopped = ("The program stopped at line 77 of data_parallel.py", "ValueError: there is no dataset")
    assert traceback_message(lines) == stopped


def test_a_log_without_traceback_says_nothing():
    assert traceback_message(["all is well", "done"]) is None


@pytest.mark.parametrize(
    ("exception", "message", "failure"),
    [
        (
            "ModuleNotFoundError: No module named 'albumentations.core'",
            "no module named `albumentations.core`. It is not installed where scripts run. Remove the import",
            "",
        ),
        ("OSError: [Errno 27] File too large: 'a'", "its disk is full: what it writes to WINDLASS_OUT", "DiskFull"),
        ("OSError: [Errno 28] No space left on device", "no space is left. Free some on this host", "DiskFull"),
        (
            "PermissionError: [Errno 13] Permission denied: '/root'",
            "PermissionError: [Errno 13] Permission denied: '/root'. Only WINDLASS_OUT and TMPDIR can be written to.",
            "",
        ),
        ("ValueError: Seven!", "ValueError: Seven! Its log shows how it came there.", ""),
    ],
)
def test_an_exception_comes_with_what_to_do(exception: str, message: str, failure: str):
    said, code = explain("Your script stopped at line 7", exception, Limits(1024**3, 4 * 1024**3, None))
    assert said.startswith(f"Your script stopped at line 7: {message}")
    assert code == failure


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (["one", "two", ""], "two"),
        ([], ""),
        (
            ["[rank1]:never mind", "[rank0]:No GPU here.", "[rank0]:", "E1125 torchrun's own",
             "Rank 0 ended with exit code 3; its last lines are above."],
            "No GPU here.",
        ),
        (["E1125 torchrun's own", "Rank 1 was killed by SIGKILL; its last lines are above."], ""),
    ],
)  # fmt: skip
def test_the_last_line_is_the_programs_own(lines: list[str], last: str):
    assert last_line(lines) == last
