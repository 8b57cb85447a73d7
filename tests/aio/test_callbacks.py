"""Callbacks and handlers on an event loop: plain or coroutine functions, one at a time, never in the way."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import linkbox
from linkbox import Event, EventKind, Json, MailboxEmpty, MailboxFull
from linkbox.aio import ClientAR, ClientP2P, ServerAR, ServerP2P
from tests.conformance.fronts import until

ANY = "tcp://127.0.0.1:0"


def test_coroutine_callbacks_run_one_at_a_time_and_in_order() -> None:
    seen: list[int] = []
    inside = 0

    async def bell(event: Event) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0)
        seen.append(await event.endpoint.data_get())
        inside -= 1

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            server.add_callback(bell)
            for number in range(300):
                await client.send(number)
            await until(lambda: len(seen) == 300)
            assert server.statistics().callback_errors == 0

    asyncio.run(main())
    assert seen == list(range(300))


def test_a_callback_that_waits_holds_up_neither_link_nor_pollers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linkbox.operations.callbacks.PATIENCE", 0.05)
    free = asyncio.Event()

    async def bell(event: Event) -> None:
        await free.wait()

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            server.add_callback(bell)
            for number in range(50):
                await client.send(number)
                assert await server.data_get(5) == number
            await until(lambda: "has been blocking" in caplog.text)
            free.set()

    with caplog.at_level(logging.WARNING, "linkbox"):
        asyncio.run(main())


def test_stop_returns_although_a_callback_never_does() -> None:
    struck: list[str] = []

    async def bell(event: Event) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            struck.append("cancelled")
            raise

    async def main() -> None:
        server = await ServerP2P(ANY, Json).start()
        server.add_callback(bell)
        async with ClientP2P(server.address, Json) as client:
            await client.send(1)
            await until(lambda: server.data_count() == 1)
        async with asyncio.timeout(5):
            await server.stop(0.3)
        await until(lambda: struck)

    asyncio.run(main())


def test_inside_a_callback_nobody_waits_by_default() -> None:
    caught: list[BaseException] = []

    async def bell(event: Event) -> None:
        endpoint = event.endpoint
        assert await endpoint.data_get() == 1
        for call in (endpoint.data_get, endpoint.message_get):
            try:
                await call()
            except MailboxEmpty as error:
                caught.append(error)

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server, ClientP2P(server.address, Json) as client:
            server.add_callback(bell)
            await client.send(1)
            await until(lambda: len(caught) == 2)

    asyncio.run(main())


def test_inside_a_callback_a_full_window_raises_at_once() -> None:
    caught: list[BaseException] = []
    limits = linkbox.Limits(window_messages=2, mailbox_messages=2)

    async def bell(event: Event) -> None:
        try:
            for number in range(100):
                await event.endpoint.send(number)
        except MailboxFull as error:
            caught.append(error)

    async def main() -> None:
        async with (
            ServerP2P(ANY, Json, limits=limits) as server,
            ClientP2P(server.address, Json, limits=limits) as client,
        ):
            server.add_callback(bell)
            await client.send("go")
            await until(lambda: caught)
            client.data_get_all()

    asyncio.run(main())


def test_so_many_handlers_at_once_and_no_more() -> None:
    running = most = 0

    async def handle(request: linkbox.Request[int]) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)  # long enough for all to begin that may
        running -= 1
        return request.data + 1

    async def main() -> None:
        server = await ServerAR(ANY, Json, handler=handle, workers=3).start()
        async with server, ClientAR(server.address, Json, keep_alive=True) as client:
            answers = await asyncio.gather(*(client.ask(number) for number in range(30)))
            assert answers == list(range(1, 31))

    asyncio.run(main())
    assert most == 3


def test_a_handler_may_be_a_plain_function() -> None:
    async def main() -> None:
        server = ServerAR(ANY, Json)

        @server.handler
        def handle(request: Any) -> Any:
            return len(request.data)

        async with server, ClientAR(server.address, Json) as client:
            assert await client.ask("four") == 4

    asyncio.run(main())


def test_callbacks_can_be_taken_away_and_registered_by_decorator() -> None:
    heard: list[EventKind] = []

    async def main() -> None:
        async with ServerP2P(ANY, Json) as server:

            @server.on(EventKind.CONNECTED, EventKind.DISCONNECTED)
            def bell(event: Event) -> None:
                heard.append(event.kind)

            async with ClientP2P(server.address, Json):
                await until(lambda: heard == [EventKind.CONNECTED])
                server.remove_callback(bell)
            await until(lambda: not server.peers())
            with pytest.raises(ValueError, match="not registered"):
                server.remove_callback(bell)

    asyncio.run(main())
    assert heard == [EventKind.CONNECTED]
