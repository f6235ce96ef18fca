import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx


def _run(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "workers.gateway", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_one_command_runs_the_gateway(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = _run("--directory", str(directory / "new"), "--listen", f"127.0.0.1:{port}", "--concurrency", "1")
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/acme/x/v2").status_code == 404
                break
            except httpx.TransportError:
                time.sleep(0.05)
        else:
            raise AssertionError("it never listened")
        program.terminate()
        assert program.wait(10) == 0
    finally:
        program.kill()
        program.communicate()


def test_a_listen_address_without_a_port_is_refused_in_words(directory: Path) -> None:
    program = _run("--directory", str(directory), "--listen", "localhost")
    assert "for example 0.0.0.0:8080" in program.communicate(timeout=20)[1]
    assert program.returncode == 2
