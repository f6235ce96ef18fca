"""How a training program says why it failed: `out/failure.json`, read by whoever watches the program."""

from __future__ import annotations

import json
from pathlib import Path

from workers.training.atomic import replace_file

FILE = "failure.json"


class Failure(Exception):
    """A reason that the program understands. `code` is CamelCase; `message` says what, why and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def write_failure(out: Path, failure: Failure) -> None:
    """Every process may write it: the content is the same, and whichever ends first ends the others."""
    content = json.dumps({"failure": failure.code, "message": failure.message})
    replace_file(out / FILE, content.encode())


def read_failure(out: Path) -> Failure | None:
    """Why the program failed before torchrun started it again, if it said so."""
    try:
        content = json.loads((out / FILE).read_text())
    except FileNotFoundError:
        return None
    return Failure(content["failure"], content["message"])
