"""`NatsWorld`: where scenarios play, over a real broker."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.conformance.fronts import World
from tests.threaded.helpers import Relay


class BrokerRelay:
    """Between one end and the broker."""

    def __init__(self, address: str) -> None:
        hosts, _, name = address.removeprefix("nats://").partition("/")
        self._relay = Relay(f"tcp://{hosts}")
        self.address = f"nats://{self._relay.address.removeprefix('tcp://')}/{name}"

    async def cut(self) -> None:
        await asyncio.to_thread(self._relay.cut)

    def hold(self) -> None:
        self._relay.hold()

    def release(self) -> None:
        self._relay.release()

    async def close(self) -> None:
        await asyncio.to_thread(self._relay.close)


class NatsWorld(World):
    """Where a scenario plays, over a broker."""

    async def relay(self, address: str) -> Any:
        return await asyncio.to_thread(BrokerRelay, address)


def world_of(front: str, url: str) -> NatsWorld:
    """The same front end on both sides."""
    return NatsWorld(front, front, url)
