"""How a program ended, in words that help the person whose program it was."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apps.placements.observation import Exit
from workers.targets.process.files import open_untrusted
from workers.targets.process.limits import gibibytes
from workers.targets.process.streams import tail

Cause = Literal["", "stop", "resume", "scale", "liveness", "deadline", "memory", "disk"]
MESSAGE_CHARACTERS = 2000
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
_RANK = re.compile(r"^\[(?:rank|default)(\d+)\]:\s?")
_EXCEPTION = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?::\s?(?P<text>.*))?$")
_CODE = re.compile(r"^[A-Z][A-Za-z0-9]{0,63}$")
_FOLLOWERS = ("ChildFailedError", "SignalException", "ProcessRaisedException", "ProcessExitedException")


@dataclass(frozen=True)
class Limits:
    memory_bytes: int
    disk_bytes: int
    deadline_seconds: float | None


def ending(status: int, cause: Cause, limits: Limits, out: Path, log: Path) -> Exit:
    """`status`: as waitpid gives it. `cause`: why the shim ended it, or "" where it ended by itself."""
    code, number = decode(status)
    said = {
        "stop": Exit(code, number, "killed", "It was stopped on request."),
        "resume": Exit(code, number, "killed", "It was stopped because the product was shut down."),
        "scale": Exit(code, number, "killed", "It was stopped because fewer replicas are wanted."),
        "liveness": Exit(code, number, "error", "It was restarted because it no longer answered its health check."),
        "deadline": Exit(
            code, number, "deadline", f"It was stopped at its deadline of {limits.deadline_seconds or 0:g} seconds."
        ),
        "memory": Exit(
            code,
            number,
            "oom",
            f"It ran out of memory at {gibibytes(limits.memory_bytes)}. Give it more memory, or make its batches "
            f"smaller.",
        ),
        "disk": Exit(
            code,
            number,
            "error",
            f"It was ended because it filled its disk: out and tmp together may hold {gibibytes(limits.disk_bytes)}. "
            f"Give it more disk, or write less.",
            "DiskFull",
        ),
    }
    return said[cause] if cause else _by_itself(code, number, out, log)


def decode(status: int) -> tuple[int | None, int | None]:
    """(exit code, signal). A cage tells a death by signal n as code 128 + n, as shells do."""
    code = os.waitstatus_to_exitcode(status)
    if code > 128 and code - 128 in set(signal.Signals):
        return None, code - 128
    return (code, None) if code >= 0 else (None, -code)


def _by_itself(code: int | None, number: int | None, out: Path, log: Path) -> Exit:
    if code == 0:
        return Exit(0, None, "ok")
    if told := _told(out / "failure.json"):
        return Exit(code, number, "error", told[1], told[0])
    lines = tail(log)
    if number:
        outside = number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        name = signal.Signals(number).name
        message = (
            f"The program was killed from outside by signal {number} ({name})."
            if outside
            else f"The program crashed with signal {number} ({name})."
        )
        return Exit(None, number, "killed" if outside else "error", message)
    message = traceback_message(lines)
    if not message:
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        message = f"The program ended with exit code {code}" + (f"; its last line was: {last[:500]}" if last else ".")
    return Exit(code, None, "error", message[:MESSAGE_CHARACTERS])


def _told(path: Path) -> tuple[str, str] | None:
    """(failure, message) as the program itself gave them, where they can be used."""
    try:
        with os.fdopen(open_untrusted(path), "rb") as file:
            content = json.loads(file.read(64 * 1024))
        failure, message = content.get("failure", ""), content["message"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(message, str) or not message.strip():
        return None
    return failure if isinstance(failure, str) and _CODE.match(failure) else "", message[:MESSAGE_CHARACTERS]


def traceback_message(lines: list[str]) -> str:
    """What a Python traceback says, or "": the line in the user's own script, and the exception.

    Of several ranks the one that fell first is told: the others fell because it did. torchrun's own traceback at
    the end only says that a rank fell.
    """
    found: dict[str, tuple[list[tuple[str, str]], str]] = {}
    frames: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        match = _RANK.match(line)
        rank, text = (match[1], line[match.end() :]) if match else ("", line)
        if text.startswith("Traceback (most recent call last)"):
            frames[rank] = []
        elif frame := _FRAME.match(text):
            frames.setdefault(rank, []).append((frame["file"], frame["line"]))
        elif frames.get(rank) and (exception := _EXCEPTION.match(text)):
            if not exception["name"].endswith(_FOLLOWERS) and (not rank or rank not in found):
                found[rank] = (frames[rank], text.strip()[:500])
            frames.pop(rank)
    if not found:
        return ""
    ranked = [rank for rank in found if rank]
    seen, exception_text = found[ranked[0] if ranked else ""]
    own = [frame for frame in seen if "/in/" in f"/{frame[0]}" and "/site-packages/" not in frame[0]]
    file, number = (own or seen)[-1]
    subject = "Your script" if own else "The program"
    return f"{subject} stopped at line {number} of {os.path.basename(file)}: {exception_text}"


WATCHER_DIED = Exit(None, None, "killed", "The process that watched over it was killed, and the program with it.")
