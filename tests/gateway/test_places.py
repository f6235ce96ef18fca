"""A deployment over several backends: each gets its share, and what one leaves goes to the others at once."""

import asyncio
from collections import Counter

import pytest

from tests.gateway.harness import Gateway, Upstream, backend, route
from tests.gateway.load import Result, load
from workers.gateway.model import Backend, Configuration, Endpoint
from workers.gateway.render import WHOLE, replicas
from workers.gateway.write import write

PATH = "/acme/digits/v2/models/digits/infer"


def side(gateway: Gateway, name: str, count: int) -> list[Upstream]:
    return [gateway.upstream(f"{name}-{number}") for number in range(count)]


def by_side(result: Result) -> Counter:
    found: Counter = Counter()
    for name, count in result.replicas.items():
        found[name.partition("-")[0]] += count
    return found


def test_shares_hold_whatever_the_number_of_replicas(gateway: Gateway) -> None:
    near, far = side(gateway, "near", 1), side(gateway, "far", 3)
    gateway.write(route(backend("near", *near, weight=70), backend("far", *far, weight=30)))
    result = asyncio.run(load(gateway.port, PATH, seconds=2, rate=500))
    assert (result.lost, result.failures) == (0, [])
    assert by_side(result)["near"] / 1000 == pytest.approx(0.7, abs=0.03)


def test_shares_hold_under_requests_that_take_a_while(gateway: Gateway) -> None:
    near, far = side(gateway, "near", 1), side(gateway, "far", 2)
    gateway.write(route(backend("near", *near, weight=70), backend("far", *far, weight=30)))
    result = asyncio.run(load(gateway.port, PATH, seconds=3, rate=300, clients=20, headers="x-sleep: 0.02\r\n"))
    assert result.lost == 0
    assert by_side(result)["near"] / 900 == pytest.approx(0.7, abs=0.08)


def test_a_whole_side_may_die_and_come_back_under_load(gateway: Gateway) -> None:
    """Nothing is written meanwhile: nobody but Envoy has to notice."""
    near, far = side(gateway, "near", 2), side(gateway, "far", 2)
    gateway.write(route(backend("near", *near, weight=70), backend("far", *far, weight=30)))
    for upstream in (*near, *far):
        upstream.socket.close()

    async def disturb() -> list[Result]:
        await asyncio.sleep(1)
        seen = []
        for victims in (near, far):
            for upstream in victims:
                upstream.kill()
            await asyncio.sleep(0.5)
            seen.append(await load(gateway.port, PATH, seconds=1, rate=100))
            for upstream in victims:
                upstream.revive()
            await asyncio.sleep(3)
            seen.append(await load(gateway.port, PATH, seconds=2, rate=100))
        return seen

    async def both() -> tuple[Result, list[Result]]:
        return await asyncio.gather(load(gateway.port, PATH, seconds=16, rate=150, clients=20), disturb())

    result, (far_alone, again, near_alone, at_last) = asyncio.run(both())
    assert (result.lost, result.failures) == (0, [])
    assert by_side(far_alone) == {"far": 100} and by_side(near_alone) == {"near": 100}
    for seen in (again, at_last):
        assert by_side(seen)["near"] / 200 == pytest.approx(0.7, abs=0.1)


def test_nearly_all_of_the_weight_on_a_side_that_dies_loses_nothing(gateway: Gateway) -> None:
    (near,), (far,) = side(gateway, "near", 1), side(gateway, "far", 1)
    gateway.write(route(backend("near", near, weight=99), backend("far", far, weight=1)))

    async def both() -> Result:
        async def kill() -> None:
            await asyncio.sleep(1)
            near.kill()

        slow = load(gateway.port, PATH, seconds=3, rate=200, clients=40, headers="x-sleep: 0.05\r\n")
        return (await asyncio.gather(slow, kill()))[0]

    result = asyncio.run(both())
    assert (result.lost, result.failures) == (0, [])
    assert by_side(result)["far"] > 350


def test_shares_change_under_load_without_a_change_of_routes(gateway: Gateway) -> None:
    (near,), (far,) = side(gateway, "near", 1), side(gateway, "far", 1)
    gateway.write(route(backend("near", near, weight=100), backend("far", far, weight=0)))
    before = (gateway.directory / "routes.json").read_bytes()

    async def change() -> None:
        for version, share in enumerate((30, 100, 0, 70, 30), start=2):
            await asyncio.sleep(0.4)
            parts = backend("near", near, weight=100 - share), backend("far", far, weight=share)
            assert await asyncio.to_thread(gateway.write, route(*parts, version=version))

    async def both() -> Result:
        return (await asyncio.gather(load(gateway.port, PATH, seconds=2.5, rate=300), change()))[0]

    result = asyncio.run(both())
    assert (result.lost, result.failures) == (0, [])
    assert (gateway.directory / "routes.json").read_bytes() == before
    after = by_side(asyncio.run(load(gateway.port, PATH, seconds=1, rate=300)))
    assert after["far"] / 300 == pytest.approx(0.3, abs=0.05)


def test_a_deployment_that_gets_the_name_of_one_that_is_gone_is_not_taken_for_it(gateway: Gateway) -> None:
    one, two = gateway.upstream("one"), gateway.upstream("two")
    gateway.write(route(backend("r1", one), version=9, identity="dep_old"))
    assert gateway.versions() == {"dep_old": 9}
    lagging = Configuration((route(backend("r2", two), version=2, identity="dep_new"),))
    gateway.stalled(lambda: write(gateway.directory, lagging, timeout_seconds=0.3))
    assert gateway.versions() in ({"dep_old": 9}, {"dep_new": 2})
    assert gateway.write(route(backend("r2", two), version=2, identity="dep_new"))
    assert gateway.versions() == {"dep_new": 2}


def weights(*backends: Backend) -> dict[str, int]:
    (found,) = replicas(Configuration((route(*backends),))).values()
    return {f"{one.backend}:{one.endpoint.port}": one.weight for one in found}


def ports(name: str, *numbers: int, weight: int, of: int = 0) -> Backend:
    return Backend(name, weight, tuple(Endpoint("127.0.0.1", number) for number in numbers), of)


@pytest.mark.parametrize(
    ("backends", "shares"),
    [
        ([ports("a", 1, weight=70), ports("b", 2, 3, weight=30)], {"a:1": 0.7, "b:2": 0.15, "b:3": 0.15}),
        ([ports("a", 1, weight=70), ports("b", weight=30)], {"a:1": 1.0}),
        ([ports("a", 1, weight=1), ports("b", 2, weight=0)], {"a:1": 1.0, "b:2": 0.0}),
        ([ports("a", 1, weight=50, of=4), ports("b", 2, weight=50, of=1)], {"a:1": 0.2, "b:2": 0.8}),
        ([ports("a", 1, 2, weight=50, of=1), ports("b", 3, weight=50, of=1)], {"a:1": 0.25, "a:2": 0.25, "b:3": 0.5}),
    ],
    ids=["of two", "one absent", "one at zero", "one of four ready", "more than counted on"],
)
def test_a_backends_share_is_its_replicas_weights(backends: list, shares: dict[str, float]) -> None:
    assert weights(*backends) == {name: round(share * WHOLE) for name, share in shares.items()}


def test_the_least_share_is_not_nothing() -> None:
    found = weights(ports("a", 1, weight=1_000_000), ports("b", 2, weight=1))
    assert found == {"a:1": WHOLE, "b:2": 1}
