"""A client that sends predictions at a steady rate over kept connections and counts what comes back."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Result:
    statuses: Counter = field(default_factory=Counter)
    replicas: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200) + len(self.failures)

    def percentile(self, share: float) -> float:
        return sorted(self.seconds)[min(int(len(self.seconds) * share), len(self.seconds) - 1)]


async def load(port: int, path: str, *, seconds: float, rate: float, clients: int = 8, headers: str = "") -> Result:
    result = Result()
    start = time.monotonic()
    ticket = iter(range(int(seconds * rate)))
    request = f"POST {path} HTTP/1.1\r\nhost: gateway\r\n{headers}content-length: 1000\r\n\r\n".encode() + b"x" * 1000

    async def client() -> None:
        streams = None
        for number in ticket:
            await asyncio.sleep(max(start + number / rate - time.monotonic(), 0))
            began = time.monotonic()
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", port)
                streams[1].write(request)
                status, body = await asyncio.wait_for(_answer(streams[0]), 70)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                result.failures.append(repr(error))
                streams = None
                continue
            result.statuses[status] += 1
            result.seconds.append(time.monotonic() - began)
            if status == 200:
                result.replicas[json.loads(body)["replica"]] += 1
            elif len(result.failures) < 20:
                result.failures.append(f"{status} {body[:300]!r}")
                result.statuses[status] -= 1
        if streams:
            streams[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return result


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split(b" ")[1]), await reader.readexactly(length)
