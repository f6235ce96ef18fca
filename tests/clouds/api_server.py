"""A Kubernetes API that only tells of its nodes, with the certificates that a bought cluster's server would have."""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from apps.core.certificates import Pair, issue


class ApiServer:
    """Answers at `address`:`port` to whoever has a client certificate of the cluster's own authority."""

    def __init__(self, credentials: dict[str, Any], address: str, nodes: int, port: int = 6443) -> None:
        self.nodes, self.ready = nodes, True
        authority = Pair(**credentials["authorities"]["server"])
        own = issue(authority, "k3s", names=[address], server=True, days=1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(own.certificate + own.key)
            file.flush()
            context.load_cert_chain(file.name)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=credentials["authorities"]["client"]["certificate"])
        self.server = ThreadingHTTPServer((address, port), self._handler())
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def listed(self) -> dict[str, Any]:
        state = {"type": "Ready", "status": "True" if self.ready else "False", "message": "it has no network yet"}
        has = {"cpu": "1900m", "memory": "3072Mi"}
        status = {"conditions": [state], "allocatable": has}
        return {
            "kind": "NodeList",
            "metadata": {"resourceVersion": "1"},
            "items": [{"metadata": {"name": f"machine-{number}"}, "status": status} for number in range(self.nodes)],
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path.partition("?")[0] == "/api/v1/nodes"
                content = json.dumps(api.listed() if known else {"items": [], "metadata": {"resourceVersion": "1"}})
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
