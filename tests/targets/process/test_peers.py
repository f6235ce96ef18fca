"""A node of a job on several hosts reaches the others, and still sees no file but its own; only ours may be one."""

from __future__ import annotations

import dataclasses
import os
import socket

import pytest

from workers.targets.contract import Grants, Refused
from workers.targets.process import cage
from workers.targets.process.target import ProcessTarget

REACH = """
import os, socket
print("address", os.environ["WINDLASS_ADDRESS"])
try:
    socket.create_connection(("127.0.0.1", {port}), 2)
    print("reached")
except OSError as error:
    print("refused", error.errno)
for path in ({root!r}, "/etc/shadow"):
    print(path, os.path.exists(path))
print("processes", sum(name.isdigit() for name in os.listdir("/proc")))
print("user", os.getuid())
"""


@pytest.mark.parametrize(("network", "word"), [("peers", "reached"), ("none", "refused")])
def test_a_node_reaches_the_hosts_network_and_nothing_else(host, caged, network, word):
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = REACH.format(port=server.getsockname()[1], root=str(cage.ROOT / "manage.py"))
        host.run(script, network=network)
    said = host.log()
    assert word in said, said
    assert "address 127.0.0.1" in said
    assert "manage.py False" in said and "/etc/shadow False" in said
    assert int(said.split("processes ")[1].split()[0]) < 6
    assert f"user {os.geteuid()}" not in said or os.geteuid() != 0


def test_an_uploaded_script_is_refused_on_several_hosts(host, caged, tmp_path):
    strict = ProcessTarget(tmp_path / "strict")
    workload = dataclasses.replace(host.job("print(1)"), trust="uploaded", network="peers")
    with pytest.raises(Refused, match="on several hosts") as refused:
        strict.apply(None, workload, 1, {}, Grants())
    assert refused.value.reason == "NoCageAcrossHosts"
    strict.apply(None, dataclasses.replace(workload, network="none"), 1, {}, Grants())
    assert strict.observe(None)["job"].state != "gone"
