"""User code sees its own files and nothing of the host."""

from __future__ import annotations

import os
import socket

import pytest

from workers.targets.contract import Refused
from workers.targets.process import cage

TRY = """
def attempt(what):
    try:
        what()
    except OSError as error:
        print("refused", error.errno)
    else:
        print("DONE")
"""


@pytest.fixture(autouse=True)
def needs_a_cage(caged):
    return


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        str(cage.ROOT / "manage.py"),
        str(cage.ROOT / "apps" / "core"),
        "/root/.bashrc",
        "/proc/1/root/etc/shadow",
    ],
)
def test_no_file_of_the_host(host, path):
    host.run(f"import os\n{TRY}\nattempt(lambda: os.stat({path!r}))")
    assert "DONE" not in host.log()
    assert "refused" in host.log()


def test_no_file_of_another_workload(host):
    host.apply(host.job("import time; open('out/mine', 'w').write('x'); time.sleep(600)", name="other"))
    path = str(host.path("other", "out"))
    host.run(f"import os\n{TRY}\nattempt(lambda: os.listdir({path!r}))\nprint(os.listdir('/workload'))")
    assert "refused 2" in host.log()


def test_no_network(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        host.run(
            f"import socket\n{TRY}\nattempt(lambda: socket.create_connection(('127.0.0.1', {port}), 2))"
            "\nattempt(lambda: socket.create_connection(('192.0.2.1', 80), 2))"
        )
    assert "DONE" not in host.log()
    assert host.log().count("refused") == 2


def test_a_loopback_of_its_own(host):
    script = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(("localhost", server.getsockname()[1]))
print("linked")
"""
    host.run(script)
    assert "linked" in host.log()


def test_no_process_of_the_host(host):
    host.run("import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))")
    assert "[1, 2]" in host.log() or "[1, 2, 3]" in host.log()


def test_not_root_and_no_way_back(host):
    script = f"""
import ctypes, os
{TRY}
libc = ctypes.CDLL(None, use_errno=True)
print("user", os.getuid())
print("namespace", libc.unshare(0x10000000))
print("mount", libc.mount(b"none", b"/workload/out", b"tmpfs", 0, None))
attempt(lambda: open("/usr/bin/x", "w"))
attempt(lambda: os.setuid(0))
"""
    host.run(script)
    log = host.log()
    assert "user 0\n" not in log
    assert "namespace -1" in log
    assert "mount -1" in log
    assert "DONE" not in log


def test_nothing_of_our_environment(host, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://hunter2")
    host.run("import os\nprint(dict(os.environ))\nprint(open('/proc/1/environ').read())")
    assert "hunter2" not in host.log()


def test_secrets_are_files(kept, host):
    host.apply(host.job("print(open('secrets/token').read())", secrets=("token",)), token=b"opensesame")
    host.ended()
    assert "opensesame" in host.log()
    assert host.path("job", "secrets/token").stat().st_mode & 0o777 == 0o400


def test_each_workload_has_a_user_of_its_own(host):
    if os.geteuid() != 0:
        pytest.skip("only root can change its user")
    for name in ("one", "two"):
        host.apply(host.job("import os; print('user', os.getuid())", name=name))
        host.ended(name)
    assert host.log("one") != host.log("two")


def test_programs_of_the_project_can_be_loaded(host):
    host.run("import workers.training, workers.serving; print('loaded')")
    assert "loaded" in host.log()


def test_uploaded_scripts_run_in_a_cage(host):
    host.target._allow_uncaged = False
    assert host.run("print('hello')", trust="uploaded").exit.reason == "ok"


def test_uploaded_scripts_are_refused_without_one(uncaged, host):
    host.target._allow_uncaged = False
    with pytest.raises(Refused, match="Install bubblewrap") as refused:
        host.apply(host.job("print('hello')", trust="uploaded"))
    assert refused.value.reason == "NoCage"
    assert host.seen("job").state == "gone"
    assert not cage.caged()


def test_the_socket_of_a_service_is_no_way_to_the_host(host):
    script = f"""
import ctypes, os, socket, time
{TRY}
libc = ctypes.CDLL(None, use_errno=True)
listener = socket.socket(fileno=int(os.environ["WINDLASS_LISTEN_FD"]))
port = int(os.environ["PORT"])
print("reset", libc.connect(listener.fileno(), bytes(16), 16))
listener.shutdown(socket.SHUT_RDWR)
attempt(lambda: listener.connect(("127.0.0.1", port)))
attempt(lambda: listener.sendto(b"hello", socket.MSG_FASTOPEN, ("127.0.0.1", port)))
attempt(lambda: listener.sendmsg([b"hello"], [], socket.MSG_FASTOPEN, ("127.0.0.1", port)))
attempt(lambda: listener.bind(("127.0.0.1", 0)))
print("all tried", flush=True)
time.sleep(600)
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host.apply(host.service(script=script, probe=None, env={"PORT": str(server.getsockname()[1])}))
        log = host.said("service", "all tried")
    assert "DONE" not in log
    assert "reset -1" in log
    assert log.count("refused 1\n") == 4


def test_a_shim_that_dies_takes_the_cage_along(host):
    import signal
    import time

    host.apply(host.job("import time; print('ready', flush=True); time.sleep(600)"))
    host.said()
    inside = host.processes("job")
    assert len(inside) == 3
    os.kill(host.shim("job"), signal.SIGKILL)
    deadline = time.monotonic() + 3
    while host.processes("job") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not host.processes("job")
