import json
from pathlib import Path

from tests.gateway.harness import Gateway, backend, route


def test_what_a_client_says_in_internal_headers_is_dropped(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    sent = {"x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-max-retries": "9", "x-windlass-shadow": "1"}
    answer = gateway.get("/acme/digits/v2", headers={**sent, "x-sleep": "0.1"})
    assert answer.status_code == 200
    seen = answer.json()["headers"]
    assert not [name for name in seen if name.startswith("x-windlass-")]
    assert not set(sent) & set(seen)


def test_each_request_gets_an_id_and_keeps_its_trace(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = gateway.get("/acme/digits/v2", headers={"traceparent": trace, "authorization": "Bearer wl_x"})
    seen = answer.json()["headers"]
    assert seen["traceparent"] == trace
    assert seen["authorization"] == "bearer wl_x"
    assert seen["x-request-id"] == answer.headers["x-request-id"]


def test_no_answer_names_the_server(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    for path in ("/acme/digits/v2", "/nothing"):
        names = gateway.get(path).headers
        assert "server" not in names
        assert not [name for name in names if name.startswith("x-envoy")]


def test_an_access_log_is_one_json_line_a_request_without_the_query(directory: Path) -> None:
    log = directory / "access.log"
    gateway = Gateway(directory, access_log=log)
    gateway.start()
    try:
        gateway.write(route(backend("r1", gateway.upstream("one"))))
        gateway.get("/acme/digits/v2/models/x?key=secret")
        gateway.until(lambda: "models" in log.read_text())
        line = json.loads(log.read_text().splitlines()[-1])
        assert (line["deployment"], line["path"], line["status"]) == ("acme/digits", "/v2/models/x", 200)
        assert "secret" not in log.read_text()
    finally:
        gateway.close()
