"""Loops and handlers that wait for nothing: the event loop must run in between nevertheless."""

from __future__ import annotations

import asyncio
from typing import Any

from linkbox.aio import ServerAR, ServerP2M
from linkbox.aio.driver import AT_ONCE
from linkbox.core.patterns import AR, P2M
from linkbox.core.wire import frames
from tests.core.wire import Wire, greeting

MANY = 900


def test_many_requests_at_once_do_not_hold_up_the_loop() -> None:
    handled = 0

    async def handler(request: Any) -> bytes:
        nonlocal handled
        handled += 1
        return b""

    async def main() -> None:
        async with ServerAR("tcp://127.0.0.1:0", handler=handler, workers=1) as server:
            port = int(server.address.rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            asks = [frames.encode_ask(number, 0, None, b"") for number in range(1, MANY + 1)]
            writer.write(greeting(Wire(AR)) + b"".join(asks))
            before, most = 0, 0
            while handled < MANY:
                await asyncio.sleep(0)
                before, most = handled, max(most, handled - before)
            assert 0 < most <= AT_ONCE + 1
            writer.close()

    asyncio.run(main())


def test_a_loop_over_many_messages_does_not_hold_up_the_loop() -> None:
    taken = 0

    async def main() -> None:
        nonlocal taken

        async def take() -> None:
            nonlocal taken
            while True:
                await server.data_get()
                taken += 1

        async with ServerP2M("tcp://127.0.0.1:0") as server:
            port = int(server.address.rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            batch = frames.encode_batch([b"x"] * 3 * MANY)
            writer.write(greeting(Wire(P2M)) + batch)
            task = asyncio.create_task(take())
            before, most = 0, 0
            while taken < 3 * MANY:
                await asyncio.sleep(0)
                before, most = taken, max(most, taken - before)
            assert 0 < most <= AT_ONCE + 1
            writer.close()
            task.cancel()

    asyncio.run(main())
