"""How a program ended, in words that help the person whose program it was."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apps.placements.foreign import parse_json, plain
from apps.placements.observation import Exit
from workers.targets.process.files import open_untrusted
from workers.targets.process.limits import gibibytes

Cause = Literal["", "stop", "resume", "scale", "liveness", "deadline", "memory", "disk"]
MESSAGE_CHARACTERS = 2000
IMPORTABLE = "torch, numpy, safetensors, onnx, onnxruntime and sklearn"
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
_RANK = re.compile(r"^\[(?:rank|default)(\d+)\]:\s?")
_FELL = re.compile(r"^Rank (\d+) (?:ended with exit code|was killed by) ")
_EXCEPTION = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?::\s?(?P<text>.*))?$")
_MISSING_MODULE = re.compile(r"^ModuleNotFoundError: No module named '(?P<module>[^']+)'")
_OS_ERROR = re.compile(r"^\w+: \[Errno (?P<number>\d+)\]")
_CODE = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_FOLLOWERS = ("ChildFailedError", "SignalException", "ProcessRaisedException", "ProcessExitedException")


@dataclass(frozen=True)
class Limits:
    memory_bytes: int
    disk_bytes: int
    deadline_seconds: float | None

    @property
    def disk(self) -> str:
        return f"what it writes to WINDLASS_OUT and TMPDIR may be {gibibytes(self.disk_bytes)} in all"


def ending(
    status: int, cause: Cause, limits: Limits, out: Path, said: Callable[[], list[str]], uploaded: bool = False
) -> Exit:
    """`status`: as waitpid gives it. `cause`: why it was ended, or "" where it ended by itself.

    `said`: gives the last lines of its log. `uploaded`: the program is the user's own script.
    """
    code, number = decode(status)
    memory = gibibytes(limits.memory_bytes)
    known = {
        "stop": Exit(code, number, "killed", "It was stopped on request."),
        "resume": Exit(code, number, "killed", "Windlass was shut down while it ran."),
        "scale": Exit(code, number, "killed", "It was stopped because fewer replicas are wanted."),
        "liveness": Exit(code, number, "error", "It no longer answered its health check, and was started again."),
        "deadline": Exit(
            code,
            number,
            "deadline",
            f"It was stopped after {_duration(limits.deadline_seconds or 0)}, the longest that it may take. "
            "Give it more time, or less to do.",
        ),
        "memory": Exit(
            code,
            number,
            "oom",
            f"It needed more memory than the {memory} that it has. "
            f"Give it more, such as {gibibytes(2 * limits.memory_bytes)}, or smaller batches.",
        ),
        "disk": Exit(code, number, "error", _disk_full("It was stopped because its disk is full", limits), "DiskFull"),
    }
    return known[cause] if cause else _by_itself(code, number, limits, out, said, uploaded)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} seconds"


def _disk_full(what: str, limits: Limits) -> str:
    return f"{what}: {limits.disk}. Write less, or remove what is no longer needed."


def decode(status: int) -> tuple[int | None, int | None]:
    """(exit code, signal). A cage tells a death by signal n as code 128 + n, as shells do."""
    code = os.waitstatus_to_exitcode(status)
    if code > 128 and code - 128 in set(signal.Signals):
        return None, code - 128
    return (code, None) if code >= 0 else (None, -code)


def _by_itself(
    code: int | None, number: int | None, limits: Limits, out: Path, said: Callable[[], list[str]], uploaded: bool
) -> Exit:
    if code == 0:
        return Exit(0, None, "ok")
    if told := _told(out / "failure.json"):
        return Exit(code, number, "error", told[1], told[0])
    subject = "Your script" if uploaded else "The program"
    if number:
        return _by_signal(number, subject)
    lines = [plain(line) for line in said()]
    if stopped := traceback_message(lines):
        where, exception = stopped
        message, failure = explain(where, exception, limits)
    else:
        last = last_line(lines)
        message, failure = f"{subject} ended with exit code {code}", ""
        message += f"; its last line was {_quoted(last[:500])}" if last else " and said nothing."
        message += " A program that goes well ends with 0."
    return Exit(code, None, "error", message[:MESSAGE_CHARACTERS], failure)


def _quoted(said: str) -> str:
    return f"“{said}”" if said.endswith((".", "!", "?")) else f"“{said}”."


def _by_signal(number: int, subject: str) -> Exit:
    name = signal.Signals(number).name
    if number == signal.SIGHUP:  # as a training program ends when the line to another process is gone
        return Exit(None, number, "killed", f"{subject} lost the others of its job: a process, a node or the network.")
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        return Exit(None, number, "killed", f"{subject} was killed by signal {number} ({name}).")
    return Exit(
        None,
        number,
        "error",
        f"{subject} crashed with signal {number} ({name}): native code failed, often that of a library. "
        "Its log shows how far it came.",
    )


def _told(path: Path) -> tuple[str, str] | None:
    """(failure, message) as the program itself gave them, where they can be used."""
    try:
        with os.fdopen(open_untrusted(path), "rb") as file:
            content = parse_json(file.read(64 * 1024))
        failure, message = content.get("failure", ""), content["message"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(message, str) or not message.strip():
        return None
    return failure if isinstance(failure, str) and _CODE.fullmatch(failure) else "", message[:MESSAGE_CHARACTERS]


def last_line(lines: list[str]) -> str:
    """The last thing that a program said: under torchrun, that of the rank that fell first and not torchrun's own."""
    said = [line.strip() for line in lines if line.strip()]
    fell = next((match[1] for line in reversed(said) if (match := _FELL.match(line))), None)
    if fell is None:
        return said[-1] if said else ""
    own = [line[match.end() :] for line in said if (match := _RANK.match(line)) and match[1] == fell]
    return next((line for line in reversed(own) if line), "")


def traceback_message(lines: list[str]) -> tuple[str, str] | None:
    """What a Python traceback says, if there is one: the line that stopped (in the user's own script, where that is
    among them), and the exception.

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
        return None
    ranked = [rank for rank in found if rank]
    seen, exception_text = found[ranked[0] if ranked else ""]
    own = [frame for frame in seen if "/in/" in f"/{frame[0]}" and "/site-packages/" not in frame[0]]
    if own:
        return f"Your script stopped at line {own[-1][1]}", exception_text
    file, number = seen[-1]
    return f"The program stopped at line {number} of {os.path.basename(file)}", exception_text


def explain(where: str, exception: str, limits: Limits) -> tuple[str, str]:
    """(message, failure): what the exception means here, and what to do."""
    if match := _MISSING_MODULE.match(exception):
        return (
            f"{where}: no module named `{match['module']}`. It is not installed where scripts run. Remove the import, "
            f"or use what is there: {IMPORTABLE}.",
            "",
        )
    match = _OS_ERROR.match(exception)
    number = int(match["number"]) if match else 0
    if number == errno.EFBIG:
        return _disk_full(f"{where}: its disk is full", limits), "DiskFull"
    if number == errno.ENOSPC:
        return f"{where}: no space is left. Free some on this host; for temporary files use TMPDIR.", "DiskFull"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{where}: {exception}. Only WINDLASS_OUT and TMPDIR can be written to.", ""
    end = "" if exception.endswith((".", "!", "?")) else "."
    return f"{where}: {exception}{end} Its log shows how it came there.", ""


WATCHER_DIED = Exit(None, None, "killed", "The process that watched over it was killed, and the program with it.")
