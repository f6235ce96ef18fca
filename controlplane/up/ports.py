"""Are the two ports of this installation free?"""

import errno
import socket

from controlplane.configuration import Configuration


class PortTaken(Exception):
    """A port cannot be used; the message names the setting to change."""


def check(configuration: Configuration) -> None:
    """Raises PortTaken with every port that cannot be used and the setting that changes it."""
    wanted = (
        ("the web server", "WINDLASS_PORT", configuration.port),
        ("the gateway", "WINDLASS_GATEWAY_PORT", configuration.gateway_port),
    )
    problems = [
        problem
        for who, setting, port in wanted
        if (problem := problem_with(configuration.bind, port, who, setting)) is not None
    ]
    if configuration.hosts_port:
        bind, port = configuration.hosts_bind, configuration.hosts_port
        problem = problem_with(bind, port, "other hosts", "WINDLASS_HOSTS_PORT")
        problems += [problem] if problem else []
    if problems:
        raise PortTaken("\n".join(problems))


def problem_with(bind: str, port: int, who: str, setting: str) -> str | None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((bind, port))
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            free = free_port(bind, family)
            return f"Port {port} on {bind}, for {who}, is taken by another program. Choose another: {setting}={free}"
        if error.errno == errno.EACCES:
            return f"Port {port}, for {who}, may only be used by root. Choose one from 1024 on: {setting}={8000 + port}"
        return (
            f"The address {bind}, for {who}, cannot be used: {error.strerror}. Choose another: WINDLASS_BIND=127.0.0.1"
        )
    return None


def free_port(bind: str, family: socket.AddressFamily) -> int:
    with socket.socket(family) as probe:
        probe.bind((bind, 0))
        return int(probe.getsockname()[1])
