"""The event loop is closed under an endpoint that was not stopped."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import linkbox
from linkbox import StateError
from linkbox.aio import ClientAR, ClientP2M, ClientP2P, ServerAR, ServerP2M, ServerP2P

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of asyncio, rightly: sockets were left open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ANY = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a closed loop has left open is collected here, and not in another test."""
    yield
    gc.collect()


async def _start(endpoint: Any) -> None:
    await endpoint.start()


def test_start_in_another_loop_is_a_new_life() -> None:
    server = ServerP2P(ANY)
    asyncio.run(_start(server))

    async def again() -> None:
        await server.start()
        async with ClientP2P(server.address) as client:
            await client.send(b"x")
            assert await server.data_get(5) == b"x"
        assert await server.stop()

    asyncio.run(again())


@pytest.mark.parametrize("make", [lambda address: ClientP2P(address), lambda address: ServerP2P(ANY)])
def test_stop_in_another_loop(make: Callable[[str], Any]) -> None:
    with linkbox.ServerP2P(ANY) as server:
        endpoint = make(server.address)
        asyncio.run(_start(endpoint))
        assert asyncio.run(endpoint.stop()) is True
        assert asyncio.run(endpoint.stop()) is True


CALLS: list[Callable[[Any], Awaitable[Any]]] = [
    lambda client: client.send(b"x"),
    lambda client: client.data_get(0),
    lambda client: client.message_get(0),
    lambda client: client.wait_connected(),
]


@pytest.mark.parametrize("call", CALLS)
def test_calls_in_another_loop_say_that_it_is_not_started(call: Callable[[Any], Awaitable[Any]]) -> None:
    async def use(endpoint: Any) -> None:
        with pytest.raises(StateError, match=r"start\(\)"):
            await call(endpoint)

    with linkbox.ServerP2P(ANY) as server:
        for endpoint in (ClientP2P(server.address), ServerP2P(ANY)):
            asyncio.run(_start(endpoint))
            asyncio.run(use(endpoint))


def test_clients_that_start_by_themselves_do_so_in_another_loop() -> None:
    async def push(client: Any) -> None:
        await client.send(b"x")

    with (
        linkbox.ServerP2M(ANY) as collector,
        linkbox.ServerAR(ANY, handler=lambda request: request.data) as server,
    ):
        pusher, queue = ClientP2M(collector.address, linger=5), ClientP2M(collector.address, blocking=False)
        for client in (pusher, queue):
            asyncio.run(_start(client))
        asyncio.run(push(pusher))

        async def use() -> None:
            await push(pusher)
            await push(queue)
            assert await queue.stop() and await pusher.stop()

        asyncio.run(use())
        assert [collector.data_get(10) for _ in range(3)] == [b"x"] * 3
        client = ClientAR(server.address, keep_alive=True)

        async def ask() -> None:
            assert await client.ask(b"1") == b"1"

        asyncio.run(ask())
        asyncio.run(ask())
        asyncio.run(client.stop())


def test_what_the_loop_has_left_behind_is_said(caplog: pytest.LogCaptureFixture) -> None:
    client = ClientP2M("tcp://127.0.0.1:1", blocking=False)

    async def send() -> None:
        await client.send(b"x")

    asyncio.run(send())
    with caplog.at_level(logging.WARNING, "linkbox"):
        assert asyncio.run(client.stop()) is False
    assert "was closed without stop(); 1 messages were not delivered" in caplog.text


def test_stop_is_final() -> None:
    async def main() -> None:
        async with ServerAR(ANY, handler=lambda request: request.data) as server, ServerP2M(ANY) as collector:
            client, pusher = ClientAR(server.address), ClientP2M(collector.address)
            assert await client.ask(b"1") == b"1"
            for endpoint in (client, pusher):
                assert await endpoint.stop()
            for call in (client.ask, client.send, pusher.send):
                with pytest.raises(StateError, match="was stopped"):
                    await call(b"x")
            await client.start()
            assert await client.ask(b"2") == b"2"
            assert await client.stop()

    asyncio.run(main())


def test_stop_after_a_cancelled_one_does_not_claim_that_all_was_delivered() -> None:
    async def main() -> None:
        client = ClientP2M("tcp://127.0.0.1:1", blocking=False, connect_timeout=60)
        await client.send(b"x")
        stopping = asyncio.ensure_future(client.stop(30))
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert await client.stop() is False

    asyncio.run(main())
