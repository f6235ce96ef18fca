import asyncio

import pytest

from tests.gateway.harness import Gateway, backend, route
from tests.gateway.load import load

PATH = "/acme/digits/v2/models/digits/infer"


def test_killing_one_of_three_replicas_loses_no_prediction(gateway: Gateway) -> None:
    replicas = [gateway.upstream(name) for name in ("one", "two", "three")]
    gateway.write(route(backend("r1", *replicas)))

    async def kill() -> None:
        await asyncio.sleep(1)
        replicas[0].kill()

    async def both() -> object:
        slow = load(gateway.port, PATH, seconds=3, rate=300, clients=20, headers="x-sleep: 0.02\r\n")
        return (await asyncio.gather(slow, kill()))[0]

    result = asyncio.run(both())
    assert (result.lost, result.failures) == (0, [])
    assert result.replicas["one"] > 50
    assert sum(result.replicas.values()) == 900


def test_a_killed_replica_whose_port_stays_open_loses_no_prediction(gateway: Gateway) -> None:
    """The shim keeps the listening socket, so connections wait in it until the program is there again."""
    replicas = [gateway.upstream(name, held=True) for name in ("one", "two", "three")]
    gateway.write(route(backend("r1", *replicas)))

    async def kill() -> None:
        await asyncio.sleep(0.5)
        replicas[0].kill()
        await asyncio.sleep(1.5)
        replicas[0].start()

    async def both() -> object:
        return (await asyncio.gather(load(gateway.port, PATH, seconds=3, rate=200, clients=80), kill()))[0]

    result = asyncio.run(both())
    assert (result.lost, result.failures) == (0, [])
    assert result.percentile(1) < 3


@pytest.mark.parametrize("size", [100, 8 * 2**20])
def test_a_large_body_is_sent_again_whole(gateway: Gateway, size: int) -> None:
    replicas = [gateway.upstream(name) for name in ("one", "two")]
    gateway.write(route(backend("r1", *replicas)))

    async def both() -> list:
        calls = [
            asyncio.to_thread(gateway.get, PATH, method="POST", content=b"x" * size, headers={"x-sleep": "1.5"})
            for _ in range(4)
        ]
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0.8)
        replicas[0].kill()
        return [answer.json() for answer in await asyncio.gather(*tasks)]

    answers = asyncio.run(both())
    assert [(answer["replica"], answer["bytes"]) for answer in answers] == [("two", size)] * 4


def test_a_replica_that_answers_503_is_passed_over(gateway: Gateway) -> None:
    gateway.write(route(backend("r1", gateway.upstream("one"))))
    assert gateway.get("/acme/digits/v2", headers={"x-status": "503"}).json()["replica"] == "one"
    assert gateway.get("/acme/digits/v2", headers={"x-status": "500"}).status_code == 500
    assert gateway.get("/acme/digits/v2").status_code == 200
