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

from linkbox import EventKind
from linkbox.aio import ClientAR, ClientP2M, ClientP2P, ServerAR, ServerP2M, ServerP2P

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
ANY = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What other tests have left is not counted here, nor what is left here in other tests."""
    gc.collect()
    yield
    gc.collect()


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
        client.add_callback(lambda event: None, EventKind.ERROR)
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


def test_forgotten_clients_and_servers_of_conversations() -> None:
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
        del server
        await _until(lambda: len(asyncio.all_tasks()) == tasks)
        await _until(lambda: _descriptors() == before)
        async with ServerP2P(address):
            pass

    asyncio.run(main())


def test_the_warning_names_the_endpoint() -> None:
    async def main() -> None:
        endpoint = ServerP2M(ANY)
        await endpoint.start()
        name = repr(endpoint)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del endpoint
        (warning,) = caught
        assert warning.category is ResourceWarning
        assert name in str(warning.message)
        assert "async with" in str(warning.message)
        caught.clear()

    asyncio.run(main())


def test_callbacks_and_handlers_work_without_being_referenced() -> None:
    async def serve() -> tuple[str, str]:
        async def echo(event: Any) -> None:
            await event.endpoint.send(await event.endpoint.data_get())

        server = ServerP2P(ANY)
        await server.start()
        server.add_callback(echo)
        answering = ServerAR(ANY, handler=lambda request: request.data)
        await answering.start()
        return server.address, answering.address

    async def main() -> None:
        echo, answering = await serve()
        gc.collect()
        async with ClientP2P(echo) as client, ClientAR(answering) as asker:
            await client.send(b"x")
            assert await client.data_get(20) == b"x"
            assert await asker.ask(b"y", 20) == b"y"
        for each in gc.get_objects():
            if isinstance(each, (ServerP2P, ServerAR)) and each.address in (echo, answering):
                await each.stop()

    asyncio.run(main())


def test_an_endpoint_may_be_forgotten_on_another_thread() -> None:
    async def main() -> None:
        tasks = len(asyncio.all_tasks())
        box = [ServerP2P(ANY)]
        await box[0].start()
        thread = threading.Thread(target=box.clear)
        thread.start()
        await _until(lambda: len(asyncio.all_tasks()) == tasks)
        thread.join()

    asyncio.run(main())


def test_an_endpoint_that_is_forgotten_while_its_loop_ends() -> None:
    before = _descriptors()

    async def main() -> None:
        async with ServerP2M(ANY) as server:
            client = ClientP2M(server.address, blocking=False, linger=30.0)
            await client.send(b"x")
            assert await server.data_get(20) == b"x"
            await client.flush()
        server = ServerP2P(ANY)
        await server.start()

    asyncio.run(main())
    gc.collect()
    assert _descriptors() == before


def test_an_endpoint_that_is_forgotten_after_its_loop() -> None:
    before = _descriptors()
    server = ServerP2P(ANY)
    asyncio.run(_start(server))
    name = repr(server)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del server
    assert any(name in str(each.message) for each in caught)
    caught.clear()
    gc.collect()
    assert _descriptors() == before
