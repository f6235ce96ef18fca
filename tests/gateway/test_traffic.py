import asyncio
from dataclasses import replace

import httpx

from tests.gateway.harness import Gateway, backend, route
from tests.gateway.load import load

PATH = "/acme/digits/v2/models/digits/infer"


def test_weights_share_the_requests(gateway: Gateway) -> None:
    old, new = gateway.upstream("old"), gateway.upstream("new")
    gateway.write(route(backend("r1", old, weight=90), backend("r2", new, weight=10)))
    result = asyncio.run(load(gateway.port, PATH, seconds=1, rate=1000))
    assert result.lost == 0
    assert 0.06 < result.replicas["new"] / 1000 < 0.14  # five standard deviations of 0.0095, less a bit


def test_weight_zero_gets_nothing(gateway: Gateway) -> None:
    old, new = gateway.upstream("old"), gateway.upstream("new")
    gateway.write(route(backend("r1", old), backend("r2", new, weight=0)))
    assert asyncio.run(load(gateway.port, PATH, seconds=0.2, rate=500)).replicas == {"old": 100}


def test_a_backend_without_replicas_leaves_its_share_to_the_others(gateway: Gateway) -> None:
    old = gateway.upstream("old")
    gateway.write(route(backend("r1", old, weight=10), backend("r2", weight=90)))
    assert asyncio.run(load(gateway.port, PATH, seconds=0.2, rate=500)).replicas == {"old": 100}


def test_a_mirror_gets_marked_copies_and_its_answers_are_thrown_away(gateway: Gateway) -> None:
    old, shadow = gateway.upstream("old"), gateway.upstream("shadow")
    gateway.write(route(backend("r1", old), mirror=backend("r2", shadow)))
    assert asyncio.run(load(gateway.port, PATH, seconds=0.2, rate=250)).replicas == {"old": 50}

    def counted() -> dict[str, int]:
        return httpx.get(f"http://127.0.0.1:{shadow.endpoint.port}/count").json()

    gateway.until(lambda: counted() == {"count": 50, "shadows": 50})
    assert httpx.get(f"http://127.0.0.1:{old.endpoint.port}/count").json() == {"count": 50, "shadows": 0}


def test_a_dead_mirror_costs_nothing(gateway: Gateway) -> None:
    old, shadow = gateway.upstream("old"), gateway.upstream("shadow")
    gateway.write(route(backend("r1", old), mirror=backend("r2", shadow)))
    shadow.kill()
    assert asyncio.run(load(gateway.port, PATH, seconds=0.3, rate=300)).lost == 0


def test_changes_under_load_lose_nothing(gateway: Gateway) -> None:
    """Replicas come and go, a revision takes over share by share, and the old one is forgotten."""
    one, two, three, new = (gateway.upstream(name) for name in ("one", "two", "three", "new"))
    steps = [
        route(backend("r1", one, two)),
        route(backend("r1", one, two, three)),
        route(backend("r1", three)),
        route(backend("r1", three, weight=90), backend("r2", new, weight=10)),
        route(backend("r1", three, weight=0), backend("r2", new, weight=100)),
        route(backend("r2", new)),
        route(backend("r1", one), backend("r2", weight=0)),
        route(backend("r1", weight=0), backend("r2", new)),
    ]
    gateway.write(route(backend("r1", one)))

    async def change() -> None:
        for version, step in enumerate(steps * 2, start=2):
            await asyncio.sleep(0.2)
            assert await asyncio.to_thread(gateway.write, replace(step, version=version))
            assert gateway.versions() == {"acme/digits": version}

    async def both() -> object:
        result, _ = await asyncio.gather(load(gateway.port, PATH, seconds=4.5, rate=300), change())
        return result

    result = asyncio.run(both())
    assert (result.lost, result.failures) == (0, [])
    assert set(result.replicas) == {"one", "two", "three", "new"}


def test_a_request_in_flight_is_answered_by_the_replica_that_left_the_list(gateway: Gateway) -> None:
    one, two = gateway.upstream("one"), gateway.upstream("two")
    gateway.write(route(backend("r1", one)))

    async def both() -> str:
        slow = asyncio.create_task(asyncio.to_thread(gateway.get, "/acme/digits/v2", headers={"x-sleep": "1"}))
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(gateway.write, route(backend("r2", two), version=2))
        assert gateway.replica() == "two"
        return (await slow).json()["replica"]

    assert asyncio.run(both()) == "one"
