"""Calls of a Kubernetes API."""

from __future__ import annotations

import ssl
import tempfile
from typing import Any

import httpx

from workers.crashpoints import point
from workers.targets.contract import Unavailable
from workers.targets.kubernetes.access import Access

SECONDS = 8.0


class Client:
    def __init__(self, access: Access) -> None:
        self.access = access
        self.context = ssl.create_default_context(cadata=access.authority or None)
        if access.certificate:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # 0600; ssl reads files only
                file.write(access.certificate + access.key)
                file.flush()
                self.context.load_cert_chain(file.name)

    def get(self, path: str) -> dict[str, Any]:
        """The object or list at that path. Raises Unavailable."""
        headers = {"Authorization": f"Bearer {self.access.token}"} if self.access.token else {}
        point("kubernetes.get.before")
        try:
            with httpx.Client(verify=self.context, timeout=SECONDS, trust_env=False) as http:
                answer = http.get(self.access.server + path, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise Unavailable(str(error) or type(error).__name__) from error
        if answer.status_code != 200:
            raise Unavailable(f"it answered {answer.status_code}: {answer.text[:200]}")
        return dict(answer.json())
