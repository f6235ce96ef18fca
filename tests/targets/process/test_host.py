"""What the host can take, what is ours there, and what is published beside a service."""

from __future__ import annotations

import os
import time

import pytest

from workers.targets.contract import Conflict, Refused
from workers.targets.process import cage


def test_capacity(host, resources):
    assert host.target.capacity(None, resources(memory_bytes=1, disk_bytes=1)).fits
    assert "of memory" in host.target.capacity(None, resources(memory_bytes=2**50, disk_bytes=1)).why_not
    assert "of disk" in host.target.capacity(None, resources(memory_bytes=1, disk_bytes=2**60)).why_not


def test_what_is_published_changes_while_it_runs(kept, host):
    script = """
import os, time
path = os.environ["WINDLASS_LIVE"] + "/auth.json"
print("ready", flush=True)
while not os.path.exists(path):
    time.sleep(0.01)
print(open(path).read())
"""
    host.apply(host.job(script))
    host.said()
    host.target.publish(None, "job", "auth.json", b'{"version": 1}')
    host.ended()
    assert '{"version": 1}' in host.log()
    host.target.publish(None, "gone", "auth.json", b"{}")
    with pytest.raises(ValueError, match="no file name"):
        host.target.publish(None, "job", "../auth.json", b"{}")


def test_owned(host):
    host.run("pass")
    host.apply(host.job("import time; time.sleep(600)", name="other"))
    assert {owned.name: owned.ended for owned in host.target.list_owned(None)} == {"job": True, "other": False}


def test_names_that_are_no_file_names_are_refused(host):
    output, _ = host.output("../model")
    with pytest.raises(Refused, match="file name"):
        host.apply(host.job("pass", outputs=(output,)))
    with pytest.raises(Conflict):
        host.apply(host.job("pass", runtime="matlab"))


def test_old_tombstones_are_pruned(host):
    for name in ("job", "other"):
        host.run("pass", name=name) if name == "job" else None
        host.target.delete(None, name)
    tombstones = host.directory / "host" / "tombstones"
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(tombstones / "job", (long_ago, long_ago))
    host.target.delete(None, "other")
    assert sorted(os.listdir(tombstones)) == ["other"]


def test_the_cage_is_told_in_a_sentence(caged):
    assert "bubblewrap cage" in cage.describe()


def test_a_missing_cage_is_told_with_what_to_do(uncaged):
    assert "apt-get install bubblewrap" in cage.describe()
