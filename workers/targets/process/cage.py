"""How user code is kept apart: bubblewrap, under a user id of its own when we are root.

Inside there is the interpreter, the programs of `workers` that a workload may run, and the workload's own folders at
/workload; no network but a loopback of its own, no other process, no `var/`. A node of a job on several hosts is in the
host's network, since it must reach the others: only programs of ours may (see ProcessTarget). bubblewrap started by
root alone is no cage (root in it can mount the host's disk again), so the user id is dropped first. That user often
can't reach the interpreter (below a home folder of mode 0700): as root the folders needed are first bound to a staging
folder in a private mount namespace, which only the new process and bubblewrap see.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import resource
import signal
import sys
import time
import zlib
from pathlib import Path

from workers.targets.process.processes import die_with_parent
from workers.targets.process.syscalls import no_way_out

ROOT = Path(__file__).resolve().parents[3]
INSIDE = Path("/workload")
PROGRAMS = (
    "workers/__init__.py",
    "workers/training",
    "workers/export",
    "workers/serving",
    "workers/inspection",
    "apps/__init__.py",
    "apps/exports/__init__.py",
    "apps/exports/tolerances.py",
    "apps/training/__init__.py",
    "apps/training/hyperparameters.py",
)
READABLE = ("in", "live", "secrets")
WRITABLE = ("out", "tmp", "metrics")
INSTALL = "Install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap) and start Windlass again."
ALLOW = "bubblewrap is there and needs user namespaces and mounts: docs/operations-compose.md says how in a container."
FIRST_USER_ID, USER_IDS = 200_000, 100_000
_CLONE_NEWNS, _MS_REC, _MS_BIND, _MS_SLAVE = 0x20000, 0x4000, 0x1000, 0x80000
_STAGE = Path("/tmp")  # noqa: S108 - ours alone in the private mount namespace; exists on every machine
_libc = ctypes.CDLL(None, use_errno=True)


def user_id(name: str) -> int | None:
    """The user id of a caged workload, or None where we aren't root and it runs under ours."""
    return FIRST_USER_ID + zlib.crc32(name.encode()) % USER_IDS if os.geteuid() == 0 else None


def interpreter_folders() -> list[Path]:
    """The virtual environment and the Python below it, under every path by which they refer to one another."""
    environment = Path(sys.executable).parent.parent
    seen = [environment, environment.resolve(), Path(sys.base_prefix), Path(sys.base_prefix).resolve()]
    return [folder for folder in dict.fromkeys(seen) if not folder.is_relative_to("/usr") and folder != Path("/")]


def enter(
    cage: str,
    directory: Path,
    argv: list[str],
    environment: dict[str, str],
    memory_bytes: int,
    gpus: int = 0,
    may_connect: bool = True,
    peers: bool = False,
) -> None:
    """Become the caged program. `cage`: bubblewrap's path. Called in a new process; returns never, raises OSError.

    `may_connect`: only programs that hold no socket of the host's network may (see syscalls.py). `peers`: it is in the
    host's network.
    """
    shim = os.getppid()
    own_user = user_id(directory.name)
    shown = [(ROOT / program, ROOT / program, False) for program in PROGRAMS if (ROOT / program).exists()]
    shown += [(folder, folder, False) for folder in interpreter_folders()]
    shown += [(directory / name, INSIDE / name, False) for name in READABLE]
    shown += [(directory / name, INSIDE / name, True) for name in WRITABLE]
    shown += [(directory / "etc" / name, Path("/etc") / name, False) for name in ("passwd", "group", "hosts")]
    if own_user is not None:
        shown = _stage(shown)
        os.setgroups([])
        os.setresgid(own_user, own_user, own_user)
        os.setresuid(own_user, own_user, own_user)
    die_with_parent(shim)  # bubblewrap asks for the same, but only once it runs; a change of user forgets it
    binds = [
        word for source, place, writable in shown for word in ("--bind" if writable else "--ro-bind", source, place)
    ]
    command = [cage, *_walls(memory_bytes, gpus, peers), *map(str, binds), "--chdir", str(INSIDE)]
    if not may_connect and (calls := no_way_out()) is not None:
        command += ["--seccomp", str(calls)]
    command += ["--", *argv]
    os.execve(cage, command, environment)  # noqa: S606 - no shell is the point


def _walls(memory_bytes: int, gpus: int, peers: bool) -> list[str]:
    words = [
        "--unshare-all",
        *(["--share-net"] if peers else []),
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
    ]
    words += ["--hostname", "windlass", "--proc", "/proc", "--dev", "/dev"]
    words += ["--size", str(max(memory_bytes, 16 * 1024**2)), "--tmpfs", "/tmp"]  # noqa: S108 - private to the cage
    words += ["--ro-bind", "/usr", "/usr"]
    for folder in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(folder):
            words += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            words += ["--ro-bind", folder, folder]
    for path in ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/sys/devices/system"):
        words += ["--ro-bind-try", path, path]
    if gpus:
        for device in sorted(Path("/dev").glob("nvidia*")):
            words += ["--dev-bind-try", str(device), str(device)]
    return words


def _stage(shown: list[tuple[Path, Path, bool]]) -> list[tuple[Path, Path, bool]]:
    """Bind each source to a folder that every user can reach, in a mount namespace of this process alone."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)
    sources = [os.open(source, os.O_PATH | os.O_CLOEXEC) for source, _, _ in shown]  # before the stage hides any
    _mount("windlass", str(_STAGE), "tmpfs", 0, "mode=0755,size=64k")
    staged = []
    for number, (descriptor, (source, place, writable)) in enumerate(zip(sources, shown, strict=True)):
        target = _STAGE / str(number)
        target.mkdir(0o755) if source.is_dir() or os.path.isdir(f"/proc/self/fd/{descriptor}") else target.touch(0o644)
        _mount(f"/proc/self/fd/{descriptor}", str(target), None, _MS_BIND | _MS_REC)
        staged.append((target, place, writable))
    return staged


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() if data else None), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def write_identity(directory: Path) -> None:
    """The little of /etc that programs look up: who they are, and which address `localhost` has."""
    folder = directory / "etc"
    folder.mkdir(0o755, exist_ok=True)
    own_user = user_id(directory.name)
    own_user = os.geteuid() if own_user is None else own_user
    content = {
        "passwd": f"windlass:x:{own_user}:{own_user}:windlass:{INSIDE}:/bin/sh\n",
        "group": f"windlass:x:{own_user}:\n",
        "hosts": "127.0.0.1 localhost windlass\n::1 localhost\n",
    }
    for name, text in content.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)


def give_away(directory: Path) -> None:
    """Make the program's own folders and secrets belong to its user."""
    own_user = user_id(directory.name)
    if own_user is not None:
        secrets = directory / "secrets"
        for path in (*(directory / name for name in WRITABLE), secrets, *secrets.iterdir()):
            os.chown(path, own_user, own_user)


def limit_resources(disk_bytes: int, own_user: int | None) -> None:
    """Called in the new process. A number of processes is limited by user, so only for a user of its own."""
    wished = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: disk_bytes}
    if own_user is not None:
        wished[resource.RLIMIT_NPROC] = 4096
    for limit, value in wished.items():
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def caged() -> bool:
    """Whether bubblewrap works here. Tried, since a machine may have it and forbid it; remembered for minutes."""
    return bool(executable())


def executable() -> str:
    """bubblewrap's path where it works, else ""."""
    found = _installed()
    return "" if _why_not(found, _period()) else found


def describe() -> str:
    """A sentence for people: how user code is kept apart on this host."""
    found = _installed()
    why_not = _why_not(found, _period())
    if why_not:
        cure = ALLOW if found else INSTALL
        return f"Programs are not kept apart on this host: {why_not} Uploaded scripts are refused. {cure}"
    user = "under a user id of its own" if os.geteuid() == 0 else "under this account's user id"
    return f"Each program runs in a bubblewrap cage {user}: it sees only its own files and has no network."


def _installed() -> str:
    import shutil  # here and below: only the worker asks, never the shim, which must start fast

    return shutil.which("bwrap") or ""


def _period() -> int:
    """Changes every ten minutes, so that neither answer is believed for ever."""
    return int(time.monotonic() // 600)


@functools.lru_cache(maxsize=4)
def _why_not(cage: str, period: int) -> str:
    if not cage:
        return "bubblewrap is not installed."
    import subprocess

    words = [sys.executable, "-S", "-E", "-m", "workers.targets.process.cage", cage]
    try:
        tried = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=20, check=False)
        return str(json.loads(tried.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap could not be tried ({error})."


def _try(cage: str) -> str:
    """Run the interpreter in a cage. "" where that works, else why not."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "probe"
        for name in (*READABLE, *WRITABLE):
            (directory / name).mkdir(parents=True)
        write_identity(directory)
        said = os.open(directory / "said", os.O_RDWR | os.O_CREAT, 0o600)
        if (pid := os.fork()) == 0:
            try:
                signal.alarm(10)
                os.dup2(said, 1)
                os.dup2(said, 2)
                enter(cage, directory, [sys.executable, "-S", "-E", "-c", "import json"], {"PATH": os.defpath}, 1024**2)
            except OSError as error:
                os.write(2, str(error).encode())
            os._exit(127)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return ""
        reason = os.pread(said, 300, 0).decode(errors="replace").strip()
        return f"bubblewrap is installed, but doesn't work here ({reason})."


if __name__ == "__main__":
    print(json.dumps(_try(sys.argv[1])))
