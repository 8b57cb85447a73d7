"""Calls at an unusual time, or with unusual arguments, on every pair of front ends."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest

from linkbox import EndOfData, MailboxEmpty, Text
from tests.conformance.fronts import World, until
from tests.conformance.status_scenarios import logged

EDGE_SCENARIOS: list[Any] = []
HUGE = (2.2e6, 1e10, 1e300, math.inf)
"""Seconds: more milliseconds than an int holds; more nanoseconds than 64 bits hold; more than any clock has."""


def scenario(function: Any) -> Any:
    EDGE_SCENARIOS.append(function)
    return function


@scenario
async def a_timeout_may_be_as_long_as_you_like(world: World) -> None:
    with logged(logging.WARNING) as log:
        for seconds in HUGE:
            async with world.server("P2P", Text) as server:
                client = world.client("P2P", server.address, Text, connect_timeout=seconds)
                await client.start()
                # One of the two leads, the other follows.
                waiting = [asyncio.ensure_future(client.data_get(timeout=seconds)) for _ in range(2)]
                await server.wait_connected(timeout=seconds)
                receipt = await client.send("x")
                await receipt.wait(timeout=seconds)
                for _ in waiting:
                    await server.send("x", timeout=seconds)
                assert await asyncio.gather(*waiting) == ["x", "x"]
                with pytest.raises(MailboxEmpty):
                    await client.data_get(timeout=0)
                last = asyncio.ensure_future(client.data_get(timeout=seconds))
                stops = [asyncio.ensure_future(client.stop(timeout=seconds)) for _ in range(2)]
                assert await asyncio.gather(*stops) == [True, True]
                with pytest.raises(EndOfData):
                    await last
    assert [each.getMessage() for each in log.records] == []


@scenario
async def a_client_may_wait_as_long_as_you_like_for_its_server(world: World) -> None:
    server = world.server("P2P", Text)
    async with server:
        address = server.address
    with logged(logging.WARNING) as log:
        for seconds in HUGE:
            client = world.client("P2P", address, Text, connect_timeout=seconds)
            await client.start(wait=False)
            await until(lambda client=client: client.statistics().attempts > 1)
            assert await client.stop(timeout=seconds)
    assert [each.getMessage() for each in log.records] == []
