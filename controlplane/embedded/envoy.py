"""Envoy, the gateway in front of every deployment: embedded, or the one of `ENVOY_BIN`. It watches its own files."""

import signal
import socket
from pathlib import Path

from controlplane.embedded.program import Program
from workers.gateway.bootstrap import envoy_command


def program(bootstrap: Path, address: str, port: int) -> Program:
    """Envoy on a bootstrap file; ready when it accepts connections at `address` and `port`."""
    return Program(
        name="gateway",
        argv=tuple(envoy_command(bootstrap)),
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
