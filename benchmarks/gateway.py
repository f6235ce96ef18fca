"""Counts what clients lose while replicas are killed and scaled, through a real Envoy: `python -m benchmarks.gateway`.

200 predictions a second for 60 s (each takes a replica 10 ms), 1 -> 3 replicas, SIGKILL three times, 3 -> 1. Once with
replicas whose port closes with them, once with ports that stay open until the program is back, as the shim keeps them.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from tests.gateway.harness import Gateway, backend, route
from tests.gateway.load import Result, load

PATH = "/acme/digits/v2/models/digits/infer"


async def _measure(gateway: Gateway, held: bool) -> Result:
    replicas = [gateway.upstream(f"replica-{number}", held) for number in range(3)]
    version = 0

    async def listed(count: int) -> None:
        nonlocal version
        version += 1
        changed = route(backend("r1", *replicas[:count]), version=version)
        assert await asyncio.to_thread(gateway.write, changed)
        assert gateway.versions() == {"acme/digits": version}

    async def disturb() -> None:
        await asyncio.sleep(8)
        await listed(3)
        for number in range(3):
            await asyncio.sleep(6)
            replicas[number].kill()
            await asyncio.sleep(2)
            if held:
                replicas[number].start()
            else:
                replicas[number] = await asyncio.to_thread(gateway.upstream, f"replica-{number}-again")
                await listed(3)
        await asyncio.sleep(10)
        await listed(1)
        await asyncio.sleep(3)
        for replica in replicas[1:]:
            replica.kill()

    await listed(1)
    sending = load(gateway.port, PATH, seconds=60, rate=200, clients=64, headers="x-sleep: 0.01\r\n")
    return (await asyncio.gather(sending, disturb()))[0]


def main() -> None:
    for held in (False, True):
        directory = Path(tempfile.mkdtemp(prefix="gw-"))
        gateway = Gateway(directory)
        gateway.start()
        try:
            result = asyncio.run(_measure(gateway, held))
        finally:
            gateway.close()
            shutil.rmtree(directory)
        p50, p99, most = (1000 * result.percentile(share) for share in (0.5, 0.99, 1))
        print(
            f"{'port stays open' if held else 'port closes'}: {len(result.seconds)} sent, {result.lost} lost "
            f"{result.failures[:3]}, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {most:.0f} ms"
        )


if __name__ == "__main__":
    main()
