"""One way to talk to both front ends: scenarios are written with ``await``, threaded calls run on threads."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import linkbox
from linkbox import EndOfData, EventKind, Linked, aio
from linkbox.testing import MemoryNetwork
from tests.threaded.helpers import Relay

PATIENCE = 15.0
"""Seconds a scenario waits for what takes milliseconds when all is well."""
FRONTS = ("threaded", "aio")
CLASSES = ("ServerP2P", "ServerP2M", "ServerAR", "ClientP2P", "ClientP2M", "ClientAR", "LinkView", "Receipt")
WAITING = {
    name
    for each in CLASSES
    for name in dir(getattr(aio, each))
    if inspect.iscoroutinefunction(getattr(getattr(aio, each), name, None))
}
"""What is awaited on aio, and runs on a thread here."""

FACED = (linkbox.Receipt, linkbox.Server, linkbox.Client)


class Threaded:
    """A threaded endpoint, view or receipt behind an awaiting face."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if name == "link":
            return lambda peer: Threaded(found(peer))
        if name not in WAITING or not callable(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await asyncio.get_running_loop().run_in_executor(None, lambda: found(*args, **kwargs))
            if name == "broadcast":
                return {peer: Threaded(receipt) for peer, receipt in result.items()}
            return Threaded(result) if isinstance(result, FACED) else result

        return call

    def __await__(self) -> Any:
        return self.wait().__await__()

    async def __aenter__(self) -> Threaded:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            try:
                item = await self.data_get()
            except EndOfData:
                return
            yield item


class SocketRelay:
    """A relay of TCP connections, behind an awaiting face."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.address = relay.address

    async def cut(self) -> None:
        await asyncio.to_thread(self._relay.cut)

    def hold(self) -> None:
        self._relay.hold()

    async def close(self) -> None:
        await asyncio.to_thread(self._relay.close)


class MemoryRelay:
    """The same for a network in memory, which needs nothing in between."""

    def __init__(self, network: MemoryNetwork, address: str) -> None:
        self._network = network
        self.address = address

    async def cut(self) -> None:
        self._network.cut()

    def hold(self) -> None:
        self._network.hold()

    async def close(self) -> None:
        self._network.release()
        self._network.cut()


class World:
    """Where a scenario plays: which front end on which side, over what."""

    def __init__(
        self,
        server: str,
        client: str,
        address: str,
        authority: Any = None,
        network: MemoryNetwork | None = None,
    ) -> None:
        self.authority = authority
        """Who issues the certificates, over TLS."""
        self._network = network
        """What carries the bytes, over memory."""
        self._fronts = {"server": server, "client": client}
        self.address = address
        """Where servers listen."""

    @property
    def is_tcp(self) -> bool:
        return self.address.startswith(("tcp:", "tls:"))

    async def relay(self, address: str) -> MemoryRelay | SocketRelay:
        """Something between clients and the server that can cut and hold. Skips where there is none."""
        if self._network is not None:
            return MemoryRelay(self._network, address)
        if not self.is_tcp:
            pytest.skip("the relay speaks TCP")
        return SocketRelay(await asyncio.to_thread(Relay, address))

    @property
    def is_tls(self) -> bool:
        return self.authority is not None

    @property
    def is_all_aio(self) -> bool:
        return set(self._fronts.values()) == {"aio"}

    def _make(self, front: str, kind: str, *args: Any, **kwargs: Any) -> Any:
        if front == "aio":
            return getattr(aio, kind)(*args, **kwargs)
        return Threaded(getattr(linkbox, kind)(*args, **kwargs))

    def server(self, pattern: str, *args: Any, **kwargs: Any) -> Any:
        """A server, not started."""
        if self.authority is not None:
            kwargs = {"ssl": self.authority.server()} | kwargs
        if pattern == "P2P" and not getattr(kwargs.get("framing", Linked), "linked", False):
            kwargs = {"half_close": 0} | kwargs  # Scenarios of it say how long; no other waits for it.
        return self._make(self._fronts["server"], f"Server{pattern}", self.address, *args, **kwargs)

    def client(self, pattern: str, address: str | list[str], *args: Any, **kwargs: Any) -> Any:
        """A client, not started."""
        if self.authority is not None:
            if isinstance(address, str):
                address = address.replace("tcp://", "tls://")  # A relay does not know what it carries.
            kwargs = {"ssl": self.authority.client()} | kwargs
        return self._make(self._fronts["client"], f"Client{pattern}", address, *args, **kwargs)

    def handler(self, answer: Callable[[Any], Any]) -> Any:
        """A handler for the server: plain for threads, a coroutine function for aio."""
        if self._fronts["server"] == "threaded":
            return answer

        async def handle(request: Any) -> Any:
            await asyncio.sleep(0)
            return answer(request)

        return handle


def play(scenario: Any, world: World, loop_factory: Any = None) -> None:
    """Run a scenario to its end, with threads enough for everyone who waits.

    Where both sides are aio the loop is in debug mode; elsewhere that would mostly slow these tests down.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = PATIENCE  # a busy machine is no mistake of ours
        loop.set_default_executor(ThreadPoolExecutor(32))
        await scenario(world)
        await loop.shutdown_default_executor()

    with asyncio.Runner(debug=world.is_all_aio, loop_factory=loop_factory) as runner:
        runner.run(main())
    if world.is_all_aio:
        gc.collect()  # what was forgotten is found, and logged, now


class Ear:
    """A callback that remembers what it heard, for both front ends."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.events.append(event)

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    async def wait(self, kind: EventKind, count: int = 1) -> Any:
        """Wait for so many of a kind; returns the last of them."""
        found = await until(lambda: len(same := [e for e in self.events if e.kind is kind]) >= count and same)
        return found[count - 1]


async def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition that has no bell; returns what it returned."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not (found := condition()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {PATIENCE:g} s"
        await asyncio.sleep(0.002)  # it has no bell
    return found


def address_for(kind: str, folder: Path) -> str:
    return f"unix://{folder}/x.sock" if kind == "unix" else f"{kind}://127.0.0.1:0"
