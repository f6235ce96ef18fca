"""The embedded Envoy: the gateway in front of every deployment. Its configuration is files that it watches."""

import signal
import socket
from pathlib import Path

from controlplane.embedded.program import Program, package


def binary() -> Path:
    """The program inside the package."""
    return package("envoy") / "_bin" / "envoy"


def program(envoy: Path, bootstrap: Path, address: str, port: int) -> Program:
    """Envoy on a bootstrap file. Several Envoys can run on one host, hence no hot restart (it shares memory by id)."""
    argv = (str(envoy), "-c", str(bootstrap), "--disable-hot-restart", "--log-level", "warning")
    return Program(
        name="gateway",
        argv=argv,
        ready=lambda: accepts(address, port),
        stop=((signal.SIGTERM, 5.0),),
        directory=bootstrap.parent,
    )


def accepts(address: str, port: int) -> bool:
    """Does somebody accept connections there?"""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
