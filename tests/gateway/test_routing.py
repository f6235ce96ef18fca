from tests.gateway.harness import Gateway, backend, route


def test_a_deployment_is_reached_under_its_url_and_sees_only_the_protocols_path(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    answer = gateway.get("/acme/digits/v2/models/digits/infer?a=b", method="POST", content=b"x" * 500)
    assert answer.status_code == 200
    assert answer.json()["path"] == "/v2/models/digits/infer?a=b"
    assert (answer.json()["method"], answer.json()["bytes"]) == ("POST", 500)


def test_two_deployments_are_kept_apart(gateway: Gateway) -> None:
    gateway.write(
        route(backend("r1", gateway.upstream("one"))),
        route(backend("r1", gateway.upstream("two")), deployment="digits-2"),
    )
    assert gateway.replica("acme/digits") == "one"
    assert gateway.replica("acme/digits-2") == "two"


ALLOWED = (
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/digits",
    "/v2/models/digits/infer",
    "/v2/models/digits/ready",
    "/v2/models/digits/versions/1/infer",
    "/v2/models/digits/generate_stream",
)
REFUSED = {
    "/metrics": 404,
    "/v2/metrics": 404,
    "/v2/repository/index": 404,
    "/v2/models/digits/load": 404,
    "/v2/models/digits/trace/setting": 404,
    "/v2x": 404,
    "/v2/models/../../metrics": 404,
    "/v2/models/%2e%2e/metrics": 404,
    "/v2/models/a%2f..%2fmetrics": 400,
    "//v2/../metrics": 404,
    "/invocations": 404,
}


def test_the_protocols_paths_are_let_through(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    assert [gateway.get(f"/acme/digits{path}").json()["path"] for path in ALLOWED] == list(ALLOWED)


def test_no_other_path_reaches_a_replica(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    # Raw, because clients tidy paths up.
    answers = {path: gateway.raw(f"/acme/digits{path}") for path in REFUSED}
    assert {path: answer.status_code for path, answer in answers.items()} == REFUSED
    assert all(set(answer.json()) == {"error"} for answer in answers.values())


def test_http_2_without_tls_is_spoken_on_the_same_port(gateway: Gateway) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    first = gateway.exchange(preface, 9)
    assert first[3] == 4, "its first frame is SETTINGS"
