"""A small server that shows the components without a database: `python tests/frontend/preview.py [port]`.

It also plays the stream and the JSON that charts and logs read, so that the scripts can be tried.
"""

from __future__ import annotations

import json
import math
import mimetypes
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

PROJECT = Path(__file__).parents[2]
HERE = Path(__file__).parent
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'"
STEPS = [
    ("Dataset", "database"),
    ("Training run", "activity"),
    ("Export", "package"),
    ("Deployment", "radio-tower"),
    ("Prediction", "pen-line"),
]


def render(name: str, theme: str = "system", query: str = "", tick: int = 0) -> str:
    """A page of the preview as HTML. Django must be set up."""
    from django.template import engines
    from django.test import RequestFactory

    from tests.frontend import samples

    current, contents = samples.PAGES[name]
    request = RequestFactory(headers={"cookie": f"theme={theme}"}).get(f"/{name}?{query}")
    context = {
        **contents(),
        "tick": tick,
        "steps": STEPS,
        "nav": samples.nav(current),
        "workspace": SimpleNamespace(slug="vision", name="Vision team"),
        "user": SimpleNamespace(is_authenticated=True, email="developer@example.com"),
        "version": "1.4.0",
        "health_words": "Control plane healthy",
        "stream_url": "/stream",
    }
    text = (HERE / "pages" / f"{name}.html").read_text()
    return engines["django"].from_string(text).render(context, request)


def chart(name: str, last: int) -> dict[str, object]:
    xs = list(range(0, last, 40))
    if name == "accuracy":
        return {
            "x": {"label": "step"},
            "xs": xs,
            "x_max": 9600,
            "y": {"format": "percent", "max": 1.02},
            "series": [
                {
                    "name": "validation",
                    "values": [0.95 - 0.85 * math.exp(-x / 1200) for x in xs],
                    "colour": 2,
                    "dash": True,
                }
            ],
            "limit": {"value": 0.95, "words": "early stop at 95.0%"},
            "marks": [{"x": 3200, "words": ""}],
        }
    return {
        "x": {"label": "step"},
        "xs": xs,
        "x_max": 9600,
        "series": [
            {
                "name": "training",
                "values": [0.2 + 3 * math.exp(-x / 1000) + 0.04 * math.sin(x) for x in xs],
                "colour": 1,
            },
            {"name": "validation", "values": [0.28 + 2.9 * math.exp(-x / 1000) for x in xs], "colour": 2, "dash": True},
        ],
        "marks": [{"x": 3200, "words": "resumed at 3,200"}],
    }


class Preview(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tick = 0
    streams: list[threading.Event] = []

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        name = address.path.strip("/") or "components"
        if name.startswith("static/"):
            return self.send_file(PROJECT / name)
        if name == "stream":
            return self.send_stream()
        if name == "tick":
            Preview.tick += int(parse_qs(address.query).get("n", ["1"])[0])
            return self.send(b"{}", "application/json")
        if name == "break":
            for stop in Preview.streams:
                stop.set()
            return self.send(b"{}", "application/json")
        if name == "json/log":
            after = int(parse_qs(address.query).get("after", ["0"])[0])
            end = 40 + Preview.tick
            lines = [
                {
                    "id": f"0-{at}",
                    "time": f"2026-11-25T10:{at // 60 % 60:02}:{at % 60:02}.804000Z",
                    "level": "warn" if at % 9 == 4 else "info",
                    "source": f"rank {at % 2}",
                    "series": at % 2,
                    "text": f"step={at * 20} loss=0.{4000 - at} lr=1.84e-4 samples/s=1431 grad_norm=0.91",
                }
                for at in range(after, end)
            ]
            return self.send(
                json.dumps({"lines": lines, "next": str(end), "previous": None, "ended": False}).encode(),
                "application/json",
            )
        if name.startswith("json/"):
            return self.send(
                json.dumps(chart(name.removeprefix("json/"), 6412 + 40 * Preview.tick)).encode(), "application/json"
            )
        cookies = self.headers.get("Cookie", "")
        theme = next((part.split("=")[1] for part in cookies.split("; ") if part.startswith("theme=")), "system")
        theme = parse_qs(address.query).get("theme", [theme])[0]
        try:
            self.send(render(name, theme, address.query, Preview.tick).encode(), "text/html; charset=utf-8")
        except KeyError:
            self.send(b"no such page", "text/plain", 404)

    def send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, path: Path) -> None:
        if not path.is_file():
            return self.send(b"no such file", "text/plain", 404)
        self.send(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")

    def send_stream(self) -> None:
        stop = threading.Event()
        Preview.streams.append(stop)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        seen, beat = Preview.tick, 0.0
        try:
            while not stop.is_set():
                if time.monotonic() > beat:
                    self.wfile.write(b"event: alive\ndata: 5\n\n")
                    beat = time.monotonic() + 5
                if seen != Preview.tick:
                    seen = Preview.tick
                    event = {"kind": "run", "id": "run_01k7fz3m9qexample", "version": seen}
                    self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
                stop.wait(0.05)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reader left

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet: what is asked for is seen in the browser."""


def main() -> None:
    sys.path.insert(0, str(PROJECT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    import django

    django.setup()
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    server = ThreadingHTTPServer(("127.0.0.1", port), Preview)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{port}/components (training_run, overview, certificate)")
    server.serve_forever()


if __name__ == "__main__":
    main()
