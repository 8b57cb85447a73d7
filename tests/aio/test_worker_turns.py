"""Handlers that wait for nothing: the event loop must run in between nevertheless."""

from __future__ import annotations

import asyncio
from typing import Any

from linkbox.aio import ServerAR
from linkbox.core.patterns import AR
from linkbox.core.wire import frames
from linkbox.operations.answering import AT_ONCE
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
            assert 0 < most <= AT_ONCE
            writer.close()

    asyncio.run(main())
