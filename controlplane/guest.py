"""`make host`: this machine as a host of an installation elsewhere. Starts its passage and its worker, nothing else.

make host JOIN=<what make invite-host printed> [ADDRESS=<this machine's own address>]    the first time
make host                                                                               later
"""

import ipaddress
import os
from pathlib import Path

from apps.core.version import source_digest
from controlplane import configuration, installation
from controlplane.configuration import ELSEWHERE, Configuration
from controlplane.embedded import door
from controlplane.embedded.program import Program
from controlplane.join import Guest, JoinFailed, Token, identity_path, join, place
from controlplane.up import record
from controlplane.up.supervisor import Supervisor
from workers.door.passage import Passage

# What is set for an installation of one's own has no meaning here: the passage stands for what they would name.
NOT_OURS = ("HOSTS_PORT", "BIND", "PUBLIC_URL", "GATEWAY_URL", "PARTS_URL", "KEYS", "KEYS_FILE", "HOST_ID")
INVITE = (
    "This machine has not joined an installation yet. On the main machine, which runs with WINDLASS_HOSTS_PORT=8443:\n"
    "  make invite-host NAME=second\nand then here what that prints:\n  make host JOIN=..."
)


def settings_of(guest: Guest) -> dict[str, str]:
    """What its processes find in their environment. PostgreSQL and Valkey are met at the sockets of the passage."""
    found = {
        "WINDLASS_STORAGE": ELSEWHERE,
        "WINDLASS_GATEWAY": "none",
        "WINDLASS_HOST_NAME": guest.name,
        "WINDLASS_HOST_ADDRESS": guest.address,
        "DATABASE_URL": guest.database_url,
        "REDIS_URL": guest.redis_url,
    }
    return found | {f"WINDLASS_{name}": "" for name in NOT_OURS}


def passage_of(settings: Configuration, guest: Guest) -> Program:
    sockets = door.services_here(settings)
    services: list[tuple[str, str | int]] = [("web", settings.port)]
    if settings.embedded_postgres:
        services.append(("postgres", sockets["postgres"]))
    if settings.embedded_valkey:
        services.append(("valkey", sockets["valkey"]))
    plan = Passage(
        guest.id, source_digest(), place(guest.door), guest.authority, str(identity_path(settings.var)), services
    )
    return door.passage(settings, settings.var / "passage", plan)


def own_installation(var: Path) -> bool:
    return (var / "credentials.json").exists() or (var / "postgres").exists()


def joined(settings: Configuration, token: str, address: str) -> Guest:
    """Join where there is a token, else go on as what this machine is. Raises JoinFailed."""
    guest = Guest.of(settings.var)
    if guest is None and own_installation(settings.var):
        raise JoinFailed(
            f"{settings.var} is the data directory of an installation of its own. Join with another one, for example "
            f"WINDLASS_VAR={settings.var}-guest make host JOIN=..."
        )
    try:
        address = address and str(ipaddress.IPv4Address(address))
    except ValueError:
        raise JoinFailed(f"ADDRESS={address} is no IPv4 address. A value that works: ADDRESS=10.0.0.6") from None
    if token:
        found = Token.read(token)
        guest = join(settings.var, found, address, settings.host_cpus, settings.host_memory_bytes)
        print(f"Joined as “{guest.name}”, reached at {guest.address}. Later starts: make host", flush=True)
    if guest is None:
        raise JoinFailed(INVITE)
    if address and address != guest.address:
        guest = Guest(**{**guest.__dict__, "address": address})
        guest.save(settings.var)
    return guest


def main() -> int:
    token, address = os.environ.pop("JOIN", ""), os.environ.pop("ADDRESS", "")
    settings = configuration.load()
    installation.var_directory(settings)
    try:
        held = record.lock(settings.var / "up.lock", settings.web_url)
    except record.AlreadyRunning as error:
        print(error)
        return 1
    with held:
        try:
            guest = joined(settings, token, address)
        except JoinFailed as error:
            print(error)
            return 1
        os.environ.update(settings_of(guest))
        settings = Configuration()
        return Supervisor(settings, guest=(guest, passage_of(settings, guest))).run()


if __name__ == "__main__":
    raise SystemExit(main())
