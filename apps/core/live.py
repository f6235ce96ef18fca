"""The live stream: one LISTEN connection a web process, fanned out to the open pages as server-sent events.

A message carries ids only; a page that hears of a row it shows fetches it again, with all the checks of any request.
An open stream holds no database connection. When the LISTEN connection breaks, pages are told `reset` once it is
back, and fetch what they show: what was said in between is lost, what is so is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
from django.db import connection

from apps.core.wants import CHANNEL

logger = logging.getLogger(__name__)
PING_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 5.0  # pages take a stream that is silent for longer as broken
ASK_SECONDS = 30.0
QUEUE_LENGTH = 500
RESET = json.dumps({"kind": "*", "id": "*", "version": 0})


class Hub:
    """One an event loop. Subscribers are bounded queues by workspace; a full one is told `reset` instead."""

    def __init__(self) -> None:
        self.subscribers: dict[asyncio.Queue[str], str] = {}
        self.task: asyncio.Task[None] | None = None

    def subscribe(self, workspace_id: str) -> asyncio.Queue[str]:
        queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_LENGTH)
        self.subscribers[queue] = workspace_id
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._listen())
        return queue

    def unsubscribe(self, queue: asyncio.Queue[str]) -> None:
        self.subscribers.pop(queue, None)
        if not self.subscribers and self.task is not None:
            self.task.cancel()
            self.task = None

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**_parameters(), autocommit=True) as listener:
                    await listener.execute(f"LISTEN {CHANNEL}")
                    self._tell(RESET, None)
                    while True:
                        async for message in listener.notifies(timeout=PING_SECONDS):
                            self._fan_out(message.payload)
                        await listener.execute("SELECT 1")  # a dead connection gives no error by itself
            except (psycopg.Error, OSError) as error:
                logger.warning("live updates: the database does not answer (%s); trying again", error)
                await asyncio.sleep(1)

    def _fan_out(self, payload: str) -> None:
        content: dict[str, Any] = json.loads(payload)
        workspace_id = content.pop("workspace")
        self._tell(json.dumps(content), workspace_id)

    def _tell(self, message: str, workspace_id: str | None) -> None:
        """`workspace_id` None: what belongs to the installation, and `reset`, goes to everybody."""
        for queue, subscribed in self.subscribers.items():
            if workspace_id is None or subscribed == workspace_id:
                full = queue.full()
                while full and not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(RESET if full else message)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def _parameters() -> dict[str, Any]:
    """Those of libpq; what concerns Django's own connections stays out."""
    own = {"context", "cursor_factory", "pool", "prepare_threshold"}
    return {name: value for name, value in connection.get_connection_params().items() if name not in own}


async def stream(workspace_id: str, may_hear: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """Server-sent events for one page; ends when the client goes away, or `may_hear` says no, asked now and then."""
    hub = _hubs.setdefault(asyncio.get_running_loop(), Hub())
    queue = hub.subscribe(workspace_id)
    alive = f"event: alive\ndata: {KEEP_ALIVE_SECONDS:g}\n\n".encode()
    try:
        yield b"retry: 1000\n\n" + alive
        asked = time.monotonic()
        while True:
            if time.monotonic() - asked > ASK_SECONDS:
                if not await may_hear():
                    return
                asked = time.monotonic()
            message = None
            with contextlib.suppress(TimeoutError):
                message = await asyncio.wait_for(queue.get(), KEEP_ALIVE_SECONDS)
            yield alive if message is None else f"data: {message}\n\n".encode()
    finally:
        hub.unsubscribe(queue)
