"""Runs the gateway in the foreground: `python -m workers.gateway --directory DIR [--listen ADDRESS:PORT] ...`."""

from __future__ import annotations

import argparse
import os
import resource
from pathlib import Path

from workers.crashpoints import point
from workers.gateway.bootstrap import envoy_command, write_bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.gateway", description="Run the gateway (Envoy).")
    parser.add_argument("--directory", type=Path, required=True, help="where its files are and will be written")
    parser.add_argument("--listen", default="127.0.0.1:8080", help="ADDRESS:PORT (default %(default)s)")
    parser.add_argument("--admin-socket", type=Path, help="a Unix socket (default DIRECTORY/admin.sock)")
    parser.add_argument("--access-log", type=Path, help="a file for one JSON line a request (default none)")
    parser.add_argument("--concurrency", type=int, default=2, help="worker threads (default %(default)s)")
    arguments = parser.parse_args()
    address, _, port = arguments.listen.rpartition(":")
    if not port.isdecimal():
        parser.error(f"--listen {arguments.listen!r} has no port. Give ADDRESS:PORT, for example 0.0.0.0:8080.")
    try:
        bootstrap = write_bootstrap(
            arguments.directory,
            address.strip("[]"),
            int(port),
            admin_socket=arguments.admin_socket,
            access_log=arguments.access_log,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    # Each request in flight may hold two connections.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    command = envoy_command(bootstrap, concurrency=arguments.concurrency)
    point("gateway.exec.before")
    os.execv(command[0], command)  # noqa: S606  a list of our own, no shell


if __name__ == "__main__":
    main()
