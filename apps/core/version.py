"""Which version of the code this is: a checksum over it, so that two checkouts can be told to be the same.

Standard library only: a machine asks this before it has joined anything.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
CODE = ("apps", "controlplane", "workers")


@cache
def source_digest() -> str:
    """SHA-256 over the programs and the locked packages of this checkout, as they were when first asked."""
    digest = hashlib.sha256()
    files = [PROJECT / "requirements.lock"]
    for folder in CODE:
        files += (PROJECT / folder).rglob("*.py")
    for path in sorted(files):
        digest.update(f"{path.relative_to(PROJECT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
