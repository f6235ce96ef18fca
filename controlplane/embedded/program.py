"""A program that runs as our child: how it starts, when it is ready, how it stops, and what ends it when we die."""

import ctypes
import importlib.util
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class StartFailed(Exception):
    """A program did not become ready; the message says what happened and what to do."""


@dataclass(frozen=True)
class Program:
    """What to run. `stop` is a row of (signal, seconds to wait), the gentlest first; SIGKILL comes after them.

    `death_signal` is what the kernel sends it when we are killed, so that nothing of ours is ever left behind.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    stop: tuple[tuple[signal.Signals, float], ...] = ((signal.SIGTERM, 10.0),)
    hurried: signal.Signals = signal.SIGKILL
    death_signal: signal.Signals = signal.SIGTERM
    environment: Mapping[str, str] = field(default_factory=dict)
    user: pwd.struct_passwd | None = None
    directory: Path | None = None


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send us this signal when the thread that forked us ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def spawn(program: Program, log: Path, *, show_output: bool = False) -> subprocess.Popen[bytes]:
    """Start it in a session of its own (a Ctrl-C in the terminal is for us alone), its output appended to `log`.

    With `show_output` only its errors go there, and its standard output is ours.

    To be called from the main thread only: the kernel sends the death signal when the thread that forked ends.
    """
    parent = os.getpid()

    def before_exec() -> None:
        die_with_parent(program.death_signal)
        if os.getppid() != parent:
            os._exit(1)

    account = program.user
    with log.open("ab") as output:
        return subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=None if show_output else output,
            stderr=output,
            cwd=program.directory,
            env={**os.environ, **program.environment},
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=before_exec,  # safe: we have one thread, and it makes nothing but two system calls
        )


def wait_ready(
    program: Program,
    process: subprocess.Popen[bytes],
    log: Path,
    seconds: float = 60.0,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until it is ready. Raises StartFailed with the end of its log when it ends or takes too long.

    `pause` may raise, to give the waiting up.
    """
    deadline = time.monotonic() + seconds
    while not program.ready():
        if process.poll() is not None:
            raise StartFailed(f"{program.name} {ended(process.returncode)} while it started.\n{tail(log)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{program.name} was not ready within {seconds:.0f} s.\n{tail(log)}")
        pause(0.03)


def stop(program: Program, process: subprocess.Popen[bytes]) -> None:
    """Stop it with its own signals, then with SIGKILL, and wait for its end."""
    for number, seconds in program.stop:
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()


def package(name: str) -> Path:
    """The directory of an installed package, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise StartFailed(f"The package {name} is not installed. Remove .venv and start again: rm -rf .venv; make up")
    return Path(found.origin).resolve().parent


def ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented, with the log's name above them."""
    try:
        content = log.read_bytes()[-20_000:].decode(errors="replace").splitlines()
    except OSError:
        content = []
    return "\n".join([f"The end of {log}:", *(f"    {line}" for line in content[-lines:])])
