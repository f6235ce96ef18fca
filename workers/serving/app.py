"""The application: routes, keys, and predictions. It knows nothing of sockets.

The transport calls `begin` when a request's headers are there, `answer` when its body is, `done` when it was answered.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import Callable
from functools import partial
from time import perf_counter, thread_time
from typing import Any
from urllib.parse import unquote

import orjson

from workers.serving import protocol
from workers.serving.auth import AuthBundle
from workers.serving.engine import Engine, bounded
from workers.serving.messages import Refusal, Request, Response
from workers.serving.metrics import Metrics
from workers.serving.scheduler import Scheduler
from workers.serving.settings import Settings
from workers.serving.signature import Signature

Answer = Response | asyncio.Future[Response]
LATER = b"retry-after: 1\r\n"
HEADER_LENGTH = b"inference-header-content-length"


class Application:
    """Serves one model. `engine` is None until it is loaded; `draining`: no longer ready, still answering."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine: Engine | None = None
        self.signature = Signature({}, {})
        self.draining = False
        self.auth = AuthBundle(settings.live / "auth.json", settings.deployment)
        self.scheduler = Scheduler(settings.max_queue)
        self.metrics = Metrics(
            settings.metrics,
            {
                "windlass_requests_in_flight": ("Predictions that wait or run.", lambda: self.scheduler.outstanding),
                "windlass_requests_waiting": ("Predictions that wait for the model.", lambda: self.scheduler.waiting),
                "windlass_auth_bundle_age_seconds": ("Since the bundle was made.", self.auth.age_seconds),
                "windlass_model_load_seconds": (
                    "Loading the model and its first run.",
                    lambda: self.engine.load_seconds if self.engine else math.nan,
                ),
                "windlass_ready": ("1 when this replica may be sent calls.", lambda: self._why_not_ready() is None),
            },
        )
        model = f"/v2/models/{settings.model}"
        # By path: the only method, whether it needs a key and is counted, and what answers it.
        self._routes: dict[str, tuple[bytes, bool, Callable[[Request], Answer]]] = {
            "/v2": (b"GET", True, self._server),
            "/v2/models": (b"GET", True, self._models),
            "/v2/health/live": (b"GET", False, self._live),
            "/v2/health/ready": (b"GET", False, self._ready),
            "/metrics": (b"GET", False, self._metrics),
        }
        for base in (model, f"{model}/versions/{settings.revision}"):
            self._routes[base] = (b"GET", True, self._model)
            self._routes[f"{base}/ready"] = (b"GET", True, self._model_ready)
            self._routes[f"{base}/infer"] = (b"POST", True, self._infer)

    def begin(self, request: Request) -> None:
        """Checks route and key, before the body is taken; `request.refusal` is set where they do not pass."""
        began = perf_counter()
        try:
            method, needs_key, _ = self._route(request)
            request.counted = needs_key
            request.shadow = b"x-windlass-shadow" in request.headers  # the gateway drops what a client says there
            if needs_key:
                request.key = self.auth.admit(request.headers.get(b"authorization"))
            if request.method != method and not (request.method == b"HEAD" and method == b"GET"):
                raise Refusal(405, f"This path takes {method.decode()} only.", b"allow: %s\r\n" % method)
            if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
                raise Refusal(415, "Compressed bodies are not read. Send the body as it is.")
        except Refusal as refusal:
            request.refusal = refusal.response()
        request.auth_seconds = perf_counter() - began

    def answer(self, request: Request) -> Answer:
        """The response, or a future of it where the model runs in the thread."""
        try:
            return request.refusal or self._route(request)[2](request)
        except Refusal as refusal:
            return refusal.response()
        except Exception as error:
            return _bug(error)

    def done(self, request: Request, status: int) -> None:
        """Counts a request, once, whether its answer went out or its client did (499)."""
        if request.counted:
            predicted = status == 200 and request.method == b"POST"
            self.metrics.count(
                status,
                request.key.identifier if request.key and not request.shadow else None,
                perf_counter() - request.received_at if predicted else None,
            )

    def _route(self, request: Request) -> tuple[bytes, bool, Callable[[Request], Answer]]:
        path = request.target.partition(b"?")[0].decode("latin-1")
        route = self._routes.get(path) or self._routes.get(unquote(path).rstrip("/"))
        return route or (request.method, True, partial(self._nothing_here, unquote(path)))

    def _nothing_here(self, path: str, _request: Request) -> Response:
        model, revision = self.settings.model, self.settings.revision
        parts = path.split("/")
        if parts[1:3] == ["v2", "models"] and len(parts) > 3:
            if parts[3] != model:
                raise Refusal(404, f'There is no model "{parts[3][:100]}" here. This deployment serves "{model}".')
            if parts[4:5] == ["versions"] and parts[5:6] != [revision]:
                version = "".join(parts[5:6])[:100]
                raise Refusal(404, f'Model "{model}" has no version "{version}" here. This replica runs {revision}.')
        raise Refusal(404, f"There is nothing at {path[:200]}. Predictions: POST /v2/models/{model}/infer.")

    def _why_not_ready(self) -> str | None:
        if self.draining:
            return "This replica is about to stop. Another one answers."
        if self.engine is None:
            return "The model is still being loaded. Try again after 1 s."
        return None if self.auth.loaded else "This replica has not been told yet which keys it may answer."

    def _live(self, _request: Request) -> Response:
        return Response(200, b'{"live":true}')

    def _ready(self, _request: Request) -> Response:
        if why_not := self._why_not_ready():
            return Response(503, orjson.dumps({"ready": False, "error": why_not}), LATER)
        return Response(200, b'{"ready":true}')

    def _metrics(self, _request: Request) -> Response:
        return Response(200, self.metrics.prometheus(), content_type=b"text/plain; version=0.0.4; charset=utf-8")

    def _server(self, _request: Request) -> Response:
        about = {"name": "windlass", "version": self.settings.revision, "extensions": ["binary_tensor_data"]}
        return Response(200, orjson.dumps(about))

    def _models(self, _request: Request) -> Response:
        entry = {
            "name": self.settings.model, "version": self.settings.revision, "ready": self._why_not_ready() is None
        }  # fmt: skip
        return Response(200, orjson.dumps({"models": [entry]}))

    def _model(self, _request: Request) -> Response:
        engine = self._loaded()
        about: dict[str, Any] = {
            "name": self.settings.model,
            "versions": [self.settings.revision],
            "platform": engine.platform,
            "inputs": [spec.to_json() for spec in self.signature.inputs.values()],
            "outputs": [spec.to_json() for spec in self.signature.outputs.values()],
            "parameters": self.signature.facts,
        }
        return Response(200, orjson.dumps(about))

    def _model_ready(self, _request: Request) -> Response:
        if why_not := self._why_not_ready():
            raise Refusal(503, why_not, LATER)
        return Response(200, orjson.dumps({"name": self.settings.model, "ready": True}))

    def _loaded(self) -> Engine:
        if self.engine is None:
            raise Refusal(503, "The model is still being loaded. Try again after 1 s.", LATER)
        return self.engine

    def _infer(self, request: Request) -> Answer:
        engine = self._loaded()
        assert request.key is not None  # begin refuses a prediction without one
        if not request.shadow:
            self.auth.spend(request.key)
        if self.scheduler.is_quick(len(request.body)):
            return self._predict(engine, request)
        return self.scheduler.submit(len(request.body), partial(self._predict, engine, request))

    def _predict(self, engine: Engine, request: Request) -> Response:
        began = perf_counter()
        busy_before = thread_time()
        try:
            inference = protocol.decode(request.body, _json_length(request), self.signature)
            model_began = perf_counter()
            arrays = engine.run(inference.outputs, inference.feeds)
            model_seconds = perf_counter() - model_began
            body, json_length = protocol.encode(
                inference, arrays, self.settings.model, self.settings.revision, self.signature
            )
        except Refusal as refusal:
            return refusal.response()
        except Exception as error:
            return _bug(error)
        self.scheduler.note(len(request.body), thread_time() - busy_before)
        headers = b"server-timing: auth;dur=%.3f,queue;dur=%.3f,model;dur=%.3f\r\n" % (
            request.auth_seconds * 1000,
            (began - request.received_at) * 1000,
            model_seconds * 1000,
        )
        if json_length is None:
            return Response(200, body, headers)
        headers += b"inference-header-content-length: %d\r\n" % json_length
        return Response(200, body, headers, b"application/octet-stream")


def _json_length(request: Request) -> int | None:
    header = request.headers.get(HEADER_LENGTH)
    if header is None:
        return None
    if not header.isdigit() or len(header) > 18 or int(header) > len(request.body):
        raise Refusal(
            400,
            f"The Inference-Header-Content-Length header must be a number up to the body's {len(request.body)} bytes: "
            "the length of the JSON that the raw tensors follow.",
        )
    return int(header)


def _bug(error: Exception) -> Response:
    print(f"{time.strftime('%H:%M:%S')} A request failed.", flush=True)
    traceback.print_exception(error)
    return Refusal(500, f"The model failed on this request: {bounded(error)}").response()
