"""Which version of each deployment the content of a file stands for: `versions.json`, ours alone, beside the files.

It is written before the files it speaks of, and keeps those that Envoy may still work by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import orjson

from workers.gateway.files import replace_file, version_of

VERSIONS = "versions.json"
# A gateway that refuses a file works by an old one, whatever is written after: that one is kept for long, too.
MOST_KEPT = 12


@dataclass
class Versions:
    """`known`: file name -> `version_info` of a content -> `Route.known_as` -> `Route.version`; oldest first."""

    known: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Versions:
        try:
            return cls(orjson.loads((directory / VERSIONS).read_bytes()))
        except (FileNotFoundError, orjson.JSONDecodeError):
            return cls()

    def write(self, directory: Path) -> None:
        replace_file(directory / VERSIONS, orjson.dumps(self.known))

    def of(self, name: str, version_info: str | None) -> dict[str, int]:
        """The deployments' versions that this content of the file stands for; empty if it is not known."""
        return self.known.get(name, {}).get(version_info or "", {})

    def add(self, name: str, content: bytes, versions: dict[str, int]) -> None:
        """The newest word on a content counts: a new version may need no other content."""
        kept = self.known.setdefault(name, {})
        version_info = version_of(content) or ""
        kept[version_info] = versions
        if len(kept) > MOST_KEPT:
            del kept[list(kept)[1]]

    def keep_only(self, files: dict[str, bytes]) -> None:
        """Forget all but these: Envoy works by them."""
        self.known = {name: {info: self.of(name, info)} for name in files if (info := version_of(files[name]))}
