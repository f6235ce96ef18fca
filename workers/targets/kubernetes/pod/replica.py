"""A replica far from the control plane: it pulls who may call, and pushes what it answered.

While the control plane is away the replica goes on with the last bundle for ever, and what it answered waits in its
file.
"""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from workers.targets.kubernetes.pod.folders import Pod
from workers.targets.process.files import open_untrusted, write_whole
from workers.targets.process.limits import free_beginning

PULL_SECONDS, FIRST_PULL_SECONDS = 5.0, 0.5
TIMEOUT_SECONDS = 5.0
PUSH_BYTES = 256 * 1024
KEEP_BYTES = 4 * 1024**2
BUNDLE_BYTES = 64 * 1024**2
STREAM_CHARACTERS = 16


class Replica:
    """`turn` is called again and again; it does what is due."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._stream = f"metrics-{pod.name[-STREAM_CHARACTERS:]}"
        self._tag = ""
        self._bundle: dict[str, Any] | None = None
        self._offset: int | None = None  # how far it was pushed: the control plane says, for we may not be the first
        self._due = 0.0
        self._silent = False

    def turn(self) -> None:
        if time.monotonic() < self._due:
            return
        pulled = self.pull()
        if pulled:
            self.push()
        pause = PULL_SECONDS if pulled or self._bundle is not None else FIRST_PULL_SECONDS
        self._due = time.monotonic() + pause * random.uniform(0.9, 1.1)  # noqa: S311 - not all replicas at once

    def pull(self) -> bool:
        """Whether the control plane answered. The file is written anew each time: its age is a figure of ours."""
        try:
            status, tag, content = self._ask(headers={"If-None-Match": self._tag} if self._bundle is not None else {})
            if status != 304:
                self._bundle, self._tag = json.loads(content), tag
        except (OSError, ValueError, HTTPException) as error:
            self._complain(error)
            return False
        if self._bundle is None:
            return False
        if status == 304:
            self._bundle["made_at"] = time.time()
        write_whole(self._pod.work / "live" / "auth.json", json.dumps(self._bundle).encode(), 0o644)
        self._silent = False
        return True

    def push(self) -> None:
        """Send what the program wrote since, until all is there or the control plane does not answer."""
        try:
            while True:
                if self._offset is None:
                    self._offset = self._send(0, b"")
                content = self._written(self._offset)
                if not content:
                    break
                self._offset = self._send(self._offset, content)
        except (OSError, ValueError, KeyError, HTTPException) as error:
            self._complain(error)
            self._offset = None
            return
        if self._offset > KEEP_BYTES:
            free_beginning(self._pod.metrics, KEEP_BYTES)

    def _written(self, offset: int) -> bytes:
        try:
            descriptor = open_untrusted(self._pod.metrics)
        except OSError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(offset)
            return file.read(PUSH_BYTES)

    def _send(self, offset: int, content: bytes) -> int:
        """Returns where to go on, which a gap (409) tells too."""
        _status, _tag, answer = self._ask(f"?stream={self._stream}&offset={offset}", content)
        return int(json.loads(answer)["next_offset"])

    def _ask(
        self, query: str = "", content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        """(status, ETag, content) of an answer that says something; the address may have been renewed meanwhile."""
        address = json.loads((self._pod.grants / "replica.json").read_bytes())["url"] + query
        if not address.startswith(("http://", "https://")):
            raise ValueError("the address of the control plane is none")
        sent = {"Content-Type": "application/octet-stream", **(headers or {})}
        request = urllib.request.Request(address, content, sent)  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - checked above
                return answer.status, answer.headers.get("ETag", ""), answer.read(BUNDLE_BYTES)
        except urllib.error.HTTPError as error:
            if error.code in (304, 409):
                return error.code, "", error.read(64 * 1024)
            raise

    def _complain(self, error: Exception) -> None:
        """Once for each time that it goes away; an address is a right, and never told."""
        if not self._silent:
            print(f"windlass: the control plane does not answer, going on as before: {error}", flush=True)
        self._silent = True
