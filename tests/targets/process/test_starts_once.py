"""However often and at once a workload is applied, its program runs once."""

from __future__ import annotations

import threading

import pytest

from workers.targets.contract import Conflict


def test_two_applies_start_one_program(host):
    for _ in range(2):
        host.apply(host.job("print('ready', flush=True)"))
    host.ended()
    host.apply(host.job("print('ready', flush=True)"))
    assert host.ended().exit.reason == "ok"
    assert host.log().count("ready") == 1


def test_five_applies_at_once_start_one_program(host):
    workload = host.job("import time; print('ready', flush=True); time.sleep(0.5)")
    threads = [threading.Thread(target=host.apply, args=(workload,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    host.ended()
    assert host.log().count("ready") == 1


def test_a_shim_that_is_started_beside_another_leaves(host):
    host.apply(host.job("import time; print('ready', flush=True); time.sleep(1)"))
    host.said()
    first = host.shim("job")
    files = host.target._files("job")
    files.shim_pid, alive = lambda: 0, files.shim_pid  # as if it had not been seen
    try:
        host.target._start(files)
    except Exception as error:  # it says that the second did not take charge, which is true
        assert "did not start" in str(error)
    assert alive() == first
    host.ended()
    assert host.log().count("ready") == 1


def test_another_workload_of_the_same_name_is_refused(host):
    host.apply(host.job("pass"))
    with pytest.raises(Conflict, match="only the number of replicas"):
        host.apply(host.job("print(1)"), generation=2)


def test_a_late_generation_is_refused(host):
    host.apply(host.job("pass"), generation=3)
    with pytest.raises(Conflict, match="too late"):
        host.apply(host.job("pass"), generation=2)
    assert host.ended().generation == 3


def test_a_deleted_name_does_not_come_back(host):
    host.run("pass")
    host.target.delete(None, "job")
    with pytest.raises(Conflict, match="was deleted"):
        host.apply(host.job("pass"), generation=9)
    assert host.seen("job").state == "gone"
