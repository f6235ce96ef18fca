"""The playground asks the gateway as any caller does, with a key that nobody has to keep."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from django.test import Client

from apps.accounts.auth import digest
from apps.accounts.models import ApiKey
from apps.deployments import playground
from tests.pages.addresses import ROOT

pytestmark = pytest.mark.django_db


class Gateway(BaseHTTPRequestHandler):
    """Answers as a deployment does: refuses a key at first, as replicas do that have not read it yet."""

    refusals = 0
    status = 200
    seen: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Gateway.seen.append((self.path, self.headers["Authorization"], body))
        if Gateway.refusals:
            Gateway.refusals -= 1
            return self.answer(401, {"error": "This key is not known."})
        if Gateway.status != 200:
            return self.answer(Gateway.status, {"error": 'Input "image" has shape [1, 8]. Add an axis.'})
        logits = {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [0.0, 3.0]}
        self.answer(200, {"model_name": "digits", "outputs": [logits]})

    def answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("server-timing", "auth;dur=0.001,queue;dur=0.002,model;dur=0.003")
        self.send_header("x-windlass-revision", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def gateway(settings: Any) -> Iterator[type[Gateway]]:
    Gateway.refusals, Gateway.status = 0, 200
    Gateway.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.WINDLASS_GATEWAY_URL = f"http://127.0.0.1:{server.server_port}"
    playground._client.cache_clear()
    yield Gateway
    server.shutdown()
    server.server_close()
    playground._client.cache_clear()


def ask(client: Client, busy: SimpleNamespace, **values: Any) -> str:
    path = f"{ROOT}deployments/{busy.deployment.typed_id}/playground/predict"
    answer = client.post(path, values)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_drawing_is_scaled_and_answered(developer: Client, busy: SimpleNamespace, gateway: type[Gateway]) -> None:
    text = ask(developer, busy, pixels=json.dumps([16] + [0] * 63))
    path, authorization, body = gateway.seen[0]
    assert path == "/team/digits/v2/models/digits/infer" and authorization.startswith("Bearer wl_")
    assert body["inputs"][0]["shape"] == [1, 1, 8, 8] and body["inputs"][0]["data"][:2] == [1.0, 0.0]
    assert '<span class="display">odd</span>' in text and "95.3% sure" in text and "Key check" in text
    assert authorization.removeprefix("Bearer ") not in text


def test_an_unseen_image_has_its_true_label(developer: Client, busy: SimpleNamespace, gateway: type[Gateway]) -> None:
    page = developer.get(f"{ROOT}deployments/{busy.deployment.typed_id}/playground/").content.decode()
    pick = page.partition('name="pick" value="')[2].partition('"')[0]
    text = ask(developer, busy, pick=pick, pixels="[]")
    assert f"held-out image {pick}, true label even" in text and "wrong, it is even" in text


def test_a_key_that_is_new_is_waited_for(developer: Client, busy: SimpleNamespace, gateway: type[Gateway]) -> None:
    gateway.refusals = 2
    assert '<span class="display">odd' in ask(developer, busy, pixels=json.dumps([1] * 64))
    assert len(gateway.seen) == 3


def test_a_refusal_stands_where_the_answer_would(
    developer: Client, busy: SimpleNamespace, gateway: type[Gateway]
) -> None:
    gateway.status = 400
    text = ask(developer, busy, tensor='{"inputs": []}')
    assert "400: Input &quot;image&quot; has shape [1, 8]. Add an axis." in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pixels": ""}, "Nothing was drawn yet."),
        ({"pixels": json.dumps([0] * 64)}, "The picture is empty."),
        ({"pixels": json.dumps(["x"] * 64)}, "The picture is empty."),
        ({"tensor": "{"}, "This is no JSON"),
        ({"tensor": "[1]"}, "A request is an object"),
    ],
)
def test_what_can_not_be_sent_says_why(
    developer: Client, busy: SimpleNamespace, gateway: type[Gateway], values: dict[str, str], words: str
) -> None:
    assert words in ask(developer, busy, **values)
    assert not gateway.seen


def test_a_gateway_that_is_away_is_no_mistake(developer: Client, busy: SimpleNamespace, settings: Any) -> None:
    settings.WINDLASS_GATEWAY_URL = "http://127.0.0.1:9"
    assert "can&#x27;t be reached from the web server" in ask(developer, busy, pixels=json.dumps([1] * 64))


def test_the_key_is_kept_as_its_hash_only(developer: Client, busy: SimpleNamespace, gateway: type[Gateway]) -> None:
    ask(developer, busy, pixels=json.dumps([1] * 64))
    ask(developer, busy, pixels=json.dumps([1] * 64))
    key = ApiKey.objects.get(name=playground.KEY_NAME)
    sent = gateway.seen[0][1].removeprefix("Bearer ")
    assert gateway.seen[1][1] == f"Bearer {sent}" and key.sha256 == digest(sent)
    assert (key.role, key.may_predict) == ("", True) and key.expires_at is not None
    key.revoked_at = key.created_at
    key.save()
    ask(developer, busy, pixels=json.dumps([1] * 64))
    assert gateway.seen[-1][1] != f"Bearer {sent}"  # a revoked one is not used again
