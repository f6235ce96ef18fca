"""The door for hosts elsewhere, on the main machine; and on such a host its passage to the door. Both are Envoy."""

import signal
from pathlib import Path

import orjson

from apps.core.version import source_digest
from controlplane.configuration import Configuration
from controlplane.embedded.envoy import accepts
from controlplane.embedded.program import Program
from workers.door.door import Behind, Plan, door_bootstrap
from workers.door.passage import Passage, passage_bootstrap
from workers.gateway.bootstrap import envoy_command
from workers.gateway.files import replace_file

LISTENERS = "listeners.json"
LOOPBACK = "127.0.0.1"


def door_plan(configuration: Configuration) -> Plan:
    """Where the door of this installation listens, and what is behind it."""
    sockets = services_here(configuration)
    web = configuration.reachable_bind.strip("[]")
    behind = Behind(
        postgres=sockets["postgres"] if configuration.embedded_postgres else "",
        valkey=sockets["valkey"] if configuration.embedded_valkey else "",
        web=(LOOPBACK if web == "localhost" else web, configuration.port),  # Envoy takes no names
    )
    return Plan(configuration.hosts_bind, configuration.hosts_port, configuration.door_address, behind, source_digest())


def services_here(configuration: Configuration) -> dict[str, str]:
    """The sockets of the embedded services, or of the passage in their place."""
    run = configuration.run_directory
    return {"postgres": str(run / "postgres/.s.PGSQL.5432"), "valkey": str(run / "valkey.sock")}


def door(configuration: Configuration) -> Program:
    """Ready when it takes connections; `listeners.json` is written by whoever knows the rows."""
    directory = configuration.var / "door"
    plan = door_plan(configuration)
    bootstrap = directory / "bootstrap.json"
    replace_file(bootstrap, orjson.dumps(door_bootstrap(plan.behind, str(directory / LISTENERS))))
    reachable = LOOPBACK if plan.bind == "0.0.0.0" else plan.bind
    return _envoy("door", bootstrap, reachable, plan.port)


def passage(configuration: Configuration, directory: Path, plan: Passage) -> Program:
    """Ready when it takes connections for the web server: that one is always passed through."""
    for folder in (directory, configuration.run_directory / "postgres"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    bootstrap = directory / "bootstrap.json"
    replace_file(bootstrap, orjson.dumps(passage_bootstrap(plan)))
    return _envoy("passage", bootstrap, LOOPBACK, configuration.port)


def _envoy(name: str, bootstrap: Path, address: str, port: int) -> Program:
    return Program(
        name=name,
        argv=tuple(envoy_command(bootstrap)),
        ready=lambda: accepts(address, port),
        stop=((signal.SIGTERM, 5.0),),
        directory=bootstrap.parent,
    )
