"""What a container of the image runs: `python -m controlplane.container SERVICE`, or `check SERVICE` for its health.

secrets   makes the passwords and keys that are missing, and ends
migrate   brings the tables to this version, makes the administrator at the first start, and ends
web, worker, beat, gateway

`DATABASE_URL_FILE` and `REDIS_URL_FILE` name files that hold those settings.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import NoReturn, TextIO
from urllib.parse import quote, urlsplit

# A health check runs this module every few seconds: all that takes long to import is imported where it is used.

OUR_SECRETS = Path("/secrets")
PASSWORDS = Path("/passwords")
WORKLOADS = Path("/workloads")
WORKERS = 64
STABLE_SECONDS = 60.0
LONGEST_BACKOFF_SECONDS = 30.0
WORKLOAD_GRACE_SECONDS = 20.0


def main(arguments: list[str]) -> int:
    services = {
        "secrets": make_secrets,
        "migrate": migrate,
        "web": web,
        "worker": worker,
        "beat": beat,
        "gateway": gateway,
    }
    checks = {"web": web_answers, "worker": worker_is_ready, "beat": broker_answers, "gateway": gateway_answers}
    read_setting_files()
    match arguments:
        case [name] if name in services:
            return services[name]()
        case ["check", name] if name in checks:
            return 0 if checks[name]() else 1
    print(__doc__)
    return 0 if arguments == ["--help"] else 2


def read_setting_files() -> None:
    for name in ("DATABASE_URL", "REDIS_URL"):
        if not os.environ.get(name) and (path := os.environ.get(f"{name}_FILE")):
            try:
                os.environ[name] = Path(path).read_text().strip()
            except OSError as error:
                raise SystemExit(f"{name}_FILE: {path} cannot be read: {error.strerror}. Set {name} instead.") from None


# --- secrets ------------------------------------------------------------------------------------------------------


def make_secrets() -> int:
    """Passwords and keys into the volumes of those that need them; what the environment names replaces what is there.

    A password that nobody chose is made once and kept, as are the installation's keys.
    """
    from controlplane import installation

    given = os.environ.get
    keys = given("WINDLASS_KEYS") or keep(OUR_SECRETS / "keys.json", installation.new_keys())
    installation.read_keys(keys, "WINDLASS_KEYS")
    database = given("POSTGRES_PASSWORD") or keep(PASSWORDS / "database_password", secrets.token_urlsafe(24))
    broker = given("VALKEY_PASSWORD") or keep(PASSWORDS / "broker_password", secrets.token_urlsafe(24))
    if any(character in broker for character in '\r\n"\\'):
        raise SystemExit(f"VALKEY_PASSWORD: no quotes, backslashes or line breaks, like {secrets.token_hex(16)}")
    database_url = f"postgresql://windlass:{quote(database, safe='')}@postgres:5432/windlass"
    contents = {
        OUR_SECRETS / "keys.json": keys,
        OUR_SECRETS / "database_url": given("DATABASE_URL") or database_url,
        OUR_SECRETS / "redis_url": given("REDIS_URL") or f"redis://:{quote(broker, safe='')}@valkey:6379/0",
        PASSWORDS / "database_password": database,
        PASSWORDS / "broker_password": broker,
        PASSWORDS / "valkey.conf": f'requirepass "{broker}"\n',
    }
    for path, content in contents.items():
        if not path.exists() or path.read_text() != content:
            draft = path.with_name(f".{path.name}")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(content)
            draft.replace(path)
    return 0


def keep(path: Path, content: str) -> str:
    from controlplane.installation import create_once

    try:
        return create_once(path, content)
    except OSError as error:
        raise SystemExit(
            f"{path} cannot be made: {error.strerror}. The folder must belong to user {os.getuid()}, for example: "
            f"chown -R {os.getuid()} secrets passwords"
        ) from None


# --- services -----------------------------------------------------------------------------------------------------


def migrate() -> int:
    from controlplane.up import prepare

    prepare.main()
    return 0


def web() -> NoReturn:
    from controlplane import configuration
    from controlplane.up import programs

    become(programs.web(configuration.load()).argv)


def beat() -> NoReturn:
    from controlplane import configuration
    from controlplane.up import programs

    become(programs.beat(configuration.load()).argv)


def gateway() -> NoReturn:
    from controlplane import configuration
    from workers.gateway.bootstrap import envoy_command, write_bootstrap

    settings = configuration.load()
    bootstrap = write_bootstrap(
        settings.var / "gateway", settings.bind, settings.gateway_port, admin_socket=settings.gateway_admin_socket
    )
    become(tuple(envoy_command(bootstrap)))


def become(argv: tuple[str, ...]) -> NoReturn:
    os.execv(argv[0], argv)  # noqa: S606 - no shell is the point


def worker() -> int:
    """Celery, started again when it ends by itself, so that the workloads beside it live on; they stop when we do."""
    place, held = take_place(WORKLOADS)
    identity = keep(place / "host.json", json.dumps({"id": str(uuid.uuid4()), "name": place.name}) + "\n")
    os.environ.setdefault("WINDLASS_HOST_ADDRESS", socket.gethostbyname(socket.gethostname()))
    os.environ.update(
        WINDLASS_HOST_ID=json.loads(identity)["id"],
        WINDLASS_HOST_NAME=place.name,
        WINDLASS_WORKLOADS=str(place / "workloads"),
    )
    from controlplane import configuration
    from workers.targets.process.target import stop_all

    settings = configuration.load()
    settings.workloads_directory.mkdir(mode=0o700, exist_ok=True)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with held:
        keep_running(settings.host_id, stopping)
        left = stop_all(settings.workloads_directory, WORKLOAD_GRACE_SECONDS)
    if left:
        print(f"Killed, since they did not end in time: {', '.join(left)}", file=sys.stderr)
    return 0


def take_place(directory: Path) -> tuple[Path, TextIO]:
    """The first folder that no living worker has, and the lock that makes it ours: with it go its host's id, the
    workloads and their checkpoints. So a worker that comes back goes on with its own, though its container is new.
    """
    for number in range(1, WORKERS + 1):
        place = directory / f"worker-{number}"
        place.mkdir(mode=0o700, exist_ok=True)
        held = (place / "taken").open("a")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            continue
        return place, held
    raise SystemExit(f"All {WORKERS} places for workers are taken. Start fewer: docker compose up --scale worker=2")


def keep_running(host_id: str, stopping: threading.Event) -> None:
    from controlplane import configuration
    from controlplane.embedded.program import ended, stop
    from controlplane.up import programs

    failures = 0
    while True:
        program = programs.worker(configuration.load(), host_id)
        process = subprocess.Popen(program.argv, env={**os.environ, **program.environment}, start_new_session=True)
        started = time.monotonic()
        while process.poll() is None and not stopping.wait(0.5):
            continue
        if stopping.is_set():
            return stop(program, process)
        failures = 1 if time.monotonic() - started > STABLE_SECONDS else failures + 1
        pause = min(LONGEST_BACKOFF_SECONDS, 0.5 * 2 ** (failures - 1))
        print(f"worker {ended(process.returncode)}; it is started again in {pause:.1f} s", file=sys.stderr)
        if stopping.wait(pause):
            return


# --- health -------------------------------------------------------------------------------------------------------


def status_of(port: int, path: str) -> int:
    """What answers on this port of the container; 0 if nothing does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def web_answers() -> bool:
    return status_of(int(os.environ.get("WINDLASS_PORT") or 8000), "/readyz") == 200


def gateway_answers() -> bool:
    """Any answer will do: without a deployment it knows no address."""
    return status_of(int(os.environ.get("WINDLASS_GATEWAY_PORT") or 8080), "/") > 0


def worker_is_ready() -> bool:
    """Celery touches the file when it takes work; before each start it is removed."""
    return Path(os.environ["WINDLASS_RUN"], "worker.ready").exists()


def broker_answers() -> bool:
    """Beat's container ends with beat; what else it needs is a broker to send to."""
    parts = urlsplit(os.environ["REDIS_URL"])
    try:
        socket.create_connection((str(parts.hostname), parts.port or 6379), timeout=4).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
