"""Of all the lines of a log, the one that says why."""

from __future__ import annotations

from workers.targets.process.endings import traceback_message

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
        "Your script stopped at line 31 of train.py: RuntimeError: mat1 and mat2 shapes cannot be multiplied "
        "(8x64 and 32x10)"
    )


def test_the_last_of_a_chain_is_told():
    lines = """Traceback (most recent call last):
  File "/workload/in/a.py", line 2, in <module>
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/workload/in/a.py", line 4, in <module>
ValueError: bad input""".splitlines()
    assert traceback_message(lines) == "Your script stopped at line 4 of a.py: ValueError: bad input"


def test_a_syntax_error_has_no_traceback_line():
    lines = """  File "/workload/in/a.py", line 3
    for x in
            ^
SyntaxError: invalid syntax""".splitlines()
    assert traceback_message(lines) == "Your script stopped at line 3 of a.py: SyntaxError: invalid syntax"


def test_a_program_of_ours_is_not_called_your_script():
    lines = """Traceback (most recent call last):
  File "/srv/windlass/workers/training/data_parallel.py", line 77, in <module>
ValueError: there is no dataset""".splitlines()
    assert (
        traceback_message(lines)
        == "The program stopped at line 77 of data_parallel.py: ValueError: there is no dataset"
    )


def test_a_log_without_traceback_says_nothing():
    assert traceback_message(["all is well", "done"]) == ""
