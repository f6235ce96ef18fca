"""A program's output is kept line by line, with times, within bounds."""

from __future__ import annotations

import os
import re
import time

import pytest

from workers.targets.process.files import STREAM_BYTES
from workers.targets.process.limits import free_beginning


def test_lines_carry_their_time(kept, host):
    host.run("import sys; print('out'); print('err', file=sys.stderr); print('no end', end='')")
    lines = host.log().splitlines()
    assert all(re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", line) for line in lines)
    assert sorted(line.partition(" ")[2] for line in lines) == ["err", "no end", "out"]


def test_a_long_line_is_split(host):
    host.run("print('x' * 40_000)")
    assert [len(line.partition(" ")[2]) for line in host.log().splitlines()] == [16384, 16384, 40_000 - 2 * 16384]


def test_reading_goes_on_at_an_offset(host):
    seen = host.run("print('one'); print('two')")
    first = host.target.logs(None, "job", "0", 0, 10)
    rest = host.target.logs(None, "job", "0", first.next_offset, 10_000)
    assert rest.next_offset == seen.log_bytes["0"]
    assert (first.data + rest.data).count(b"\n") == 2
    assert host.target.logs(None, "job", "0", rest.next_offset, 10).data == b""


def test_a_gigabyte_in_one_line_grows_neither_memory_nor_disk(host):
    script = """
import os
piece = b"x" * 1_000_000
for _ in range(1000):
    os.write(1, piece)
print("still here")
"""
    host.apply(host.job(script))
    shim, highest = host.shim("job"), 0
    while host.seen("job").state != "exited":
        try:
            with open(f"/proc/{shim}/statm") as file:
                highest = max(highest, int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        except OSError:
            break
        time.sleep(0.02)
    seen = host.ended(timeout_seconds=60)
    assert highest < 60 * 1024**2
    assert 0.9 * STREAM_BYTES < seen.log_bytes["0"] <= STREAM_BYTES
    assert host.log().splitlines()[-1].endswith("this log has reached 32 MiB; what follows is not kept.")


def test_a_service_keeps_the_last_part_of_its_streams(host):
    """Offsets go on counting what was given back, so that a reader never sees a byte twice or out of place."""
    host.run("pass")
    path = host.path("job", "logs/0.log")
    path.write_bytes(b"x" * 6 * 1024**2 + b"last line")
    full = path.stat().st_blocks
    free_beginning(path, 1024**2)
    size = 6 * 1024**2 + 9
    assert path.stat().st_size == size
    assert path.stat().st_blocks < full / 3
    chunk = host.target.logs(None, "job", "0", 0, 10 * 1024**2)
    assert 1024**2 <= len(chunk.data) < 2 * 1024**2 + 9
    assert (chunk.offset, chunk.next_offset) == (size - len(chunk.data), size)
    assert chunk.data.endswith(b"last line")
    assert set(chunk.data[:-9]) == {ord("x")}


def test_metrics_are_a_stream(kept, host):
    seen = host.run("""import os; open(os.environ["WINDLASS_METRICS"], "a").write('{"step": 1}\\n')""")
    assert seen.log_bytes["metrics-0"] == 12
    assert host.target.logs(None, "job", "metrics-0", 0, 100).data == b'{"step": 1}\n'


def test_metrics_that_are_a_link_are_not_followed(uncaged, host):
    host.run("""import os; os.symlink("/etc/passwd", os.environ["WINDLASS_METRICS"])""")
    with pytest.raises(OSError):
        host.target.logs(None, "job", "metrics-0", 0, 100)


@pytest.mark.parametrize("stream", ["../0", "0/../../x", "metrics-", "", "other-1", "-1"])
def test_other_streams_do_not_exist(host, stream):
    host.run("pass")
    with pytest.raises(ValueError, match="There is no stream"):
        host.target.logs(None, "job", stream, 0, 10)
