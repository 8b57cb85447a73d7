"""Endpoints that are started, not stopped, and no longer referenced."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import linkbox
from linkbox import EventKind
from linkbox.aio import ClientP2M, ClientP2P, ServerP2M, ServerP2P
from tests.threaded.helpers import only_own_garbage, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
ANY = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    with only_own_garbage():
        yield


async def _start(endpoint: Any) -> None:
    await endpoint.start()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (nothing announces it)
            await asyncio.sleep(0.005)


def _descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("options", [{}, {"blocking": False, "linger": 30.0}], ids=["blocking", "lingering"])
def test_forgotten_clients_leave_nothing_and_lose_nothing(options: dict[str, Any]) -> None:
    async def use(address: str) -> None:
        client = ClientP2M(address, **options)
        await client.send(b"x")

    async def main() -> None:
        async with ServerP2M(ANY) as server:
            tasks, before = len(asyncio.all_tasks()), _descriptors()
            for _ in range(20):
                await use(server.address)
            assert [await server.data_get(20) for _ in range(20)] == [b"x"] * 20
            await _until(lambda: len(asyncio.all_tasks()) == tasks)
            await _until(lambda: _descriptors() == before)

    asyncio.run(main())


def test_a_forgotten_client_of_a_conversation() -> None:
    async def main() -> None:
        tasks, before = len(asyncio.all_tasks()), _descriptors()
        server = ServerP2P(ANY)
        await server.start()
        address = server.address

        async def converse() -> None:
            client = ClientP2P(address)
            await client.start()
            await client.send(b"x")

        await converse()
        assert await server.data_get(20) == b"x"
        await _until(lambda: not server.peers())
        assert await server.stop()
        await _until(lambda: len(asyncio.all_tasks()) == tasks)
        await _until(lambda: _descriptors() == before)

    asyncio.run(main())


def test_the_warning_names_the_endpoint() -> None:
    async def main() -> None:
        async with ServerP2P(ANY) as server:
            client = ClientP2P(server.address)
            await client.start()
            name = repr(client)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del client
            (warning,) = caught
            assert warning.category is ResourceWarning
            assert name in str(warning.message)
            assert "async with" in str(warning.message)
            caught.clear()

    asyncio.run(main())


def test_servers_and_clients_with_callbacks_live_on() -> None:
    stopped = asyncio.Event()

    async def echo(event: Any) -> None:
        await event.endpoint.send(await event.endpoint.data_get())

    async def stop(event: Any) -> None:
        await event.endpoint.stop()
        stopped.set()

    async def serve() -> str:
        server = ServerP2P(ANY)
        await server.start()
        server.add_callback(stop, EventKind.END)
        return server.address

    async def connect(address: str) -> None:
        client = ClientP2P(address)
        await client.start()
        client.add_callback(echo)
        client.add_callback(stop, EventKind.END)

    async def main() -> None:
        async with ServerP2P(ANY) as server:
            await connect(server.address)
            gc.collect()
            await server.send(b"x")
            assert await server.data_get(20) == b"x"
            await server.end()
            await asyncio.wait_for(stopped.wait(), 20)
        stopped.clear()
        address = await serve()
        gc.collect()
        async with ClientP2P(address) as client:
            await (await client.send(b"x")).wait(timeout=20)
        await asyncio.wait_for(stopped.wait(), 20)

    asyncio.run(main())


def test_a_client_may_be_forgotten_on_another_thread() -> None:
    async def main() -> None:
        async with ServerP2P(ANY) as server:
            tasks = len(asyncio.all_tasks())
            box = [ClientP2P(server.address)]
            await box[0].start()
            thread = threading.Thread(target=box.clear)
            thread.start()
            await _until(lambda: not server.peers() and len(asyncio.all_tasks()) == tasks)
            thread.join()

    asyncio.run(main())


def test_a_client_that_is_forgotten_while_its_loop_ends() -> None:
    before = _descriptors()
    with linkbox.ServerP2P(ANY) as server:

        async def main() -> None:
            client = ClientP2P(server.address)
            await client.start()
            await (await client.send(b"x")).wait(timeout=20)

        during = _descriptors()
        asyncio.run(main())
        gc.collect()
        assert server.data_get(20) == b"x"
        wait_until(lambda: _descriptors() <= during)
    assert _descriptors() == before


def test_a_client_that_is_forgotten_after_its_loop() -> None:
    with linkbox.ServerP2P(ANY) as server:
        before = _descriptors()
        client = ClientP2P(server.address)
        asyncio.run(_start(client))
        name = repr(client)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del client
        assert any(name in str(each.message) for each in caught)
        caught.clear()
        gc.collect()
        wait_until(lambda: _descriptors() == before)
