"""Calls at an unusual time, or with unusual arguments, on every pair of front ends."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from linkbox import (
    AnswerError,
    Backoff,
    ConnectFailed,
    EndOfData,
    EventKind,
    Lines,
    Linked,
    MailboxEmpty,
    PeerLost,
    StateError,
    StoreError,
    Text,
)
from tests.conformance.fronts import Ear, World, until
from tests.conformance.status_scenarios import logged
from tests.threaded.helpers import without_collector

EDGE_SCENARIOS: list[Any] = []
CONVERSATIONS = 40
"""So many that the timers of closed connections and sessions are given up in the meantime."""
HUGE = (2.2e6, 1e10, 1e300, math.inf)
"""Seconds: more milliseconds than an int holds; more nanoseconds than 64 bits; more than any clock."""


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


async def _nowhere(world: World) -> str:
    """An address where no server listens any more."""
    server = world.server("P2P", Text)
    async with server:
        return str(server.address)


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="lb") as name:
        yield Path(name)


@scenario
async def a_conversation_that_never_was_has_not_ended(world: World) -> None:
    client = world.client("P2P", await _nowhere(world), Text, connect_timeout=0.05)
    await client.start(wait=False)
    await until(lambda: client.ended)
    with pytest.raises(StateError, match=r"^never connected to ") as caught:
        await client.send("x")
    assert str(client.last_error) in str(caught.value)
    assert isinstance(caught.value.__cause__, ConnectFailed)
    await client.stop()
    # The same for one that was stopped before.
    client = world.client("P2P", await _nowhere(world), Text)
    await client.start(wait=False)
    waiting = asyncio.ensure_future(client.data_get())
    await until(lambda: client.statistics().attempts > 1)
    await client.stop()
    with pytest.raises(EndOfData, match="never connected"):
        await waiting


@scenario
async def a_server_that_ends_no_conversation_does_not_say_so(world: World) -> None:
    with logged(logging.INFO) as log:
        server = world.server("P2P", Text)
        await server.start()
        async with world.client("P2P", server.address, Text, reconnect=Backoff(initial=60, maximum=60)):
            await server.wait_connected()
            await server.stop(end=False)
            (down,) = log.of("disconnected", "ServerP2P")
            assert down.reason == "this server stops, and ends no conversation: its clients may come back"


@scenario
async def what_stays_in_a_store_is_not_reported_as_lost(world: World) -> None:
    with _folder() as folder, logged(logging.INFO) as log:
        for pattern in ("P2P", "P2M"):
            path = folder / f"{pattern}.db"
            client = world.client(pattern, await _nowhere(world), Text, store=path)
            ear = Ear()
            client.add_callback(ear, EventKind.ERROR)
            await client.start(**({"wait": False} if pattern == "P2P" else {}))
            for number in range(5):
                await client.send(f"{number}")
            assert await client.stop() is False
            assert ear.events == []
            (stopped,) = log.of("stopped", f"Client{pattern}")
            assert stopped.getMessage().endswith(f"stopped; 5 messages stay in {path}")
            assert (stopped.undelivered, stopped.kept) == (5, 5)


@scenario
async def a_peer_that_was_faster_to_end_is_no_error(world: World) -> None:
    async with world.server("P2P", Text) as server:
        with pytest.raises(StateError, match="yet"):
            await server.end()
        async with world.client("P2P", server.address, Text):
            await server.wait_connected()
        await until(lambda: not server.statistics().peers)
        await server.end()
        with pytest.raises(StateError, match="any more"):
            await server.send("x")


@scenario
async def one_message_that_is_not_delivered_is_one_error(world: World) -> None:
    client = world.client("P2M", await _nowhere(world), Text, blocking=False, connect_timeout=0.05)
    ear = Ear()
    client.add_callback(ear, EventKind.ERROR)
    await client.start()
    receipt = await client.send("x")
    await until(lambda: receipt.failed)
    await client.stop()  # After it, no event comes any more.
    assert [event.error for event in ear.events] == [receipt.error]


@scenario
async def a_missing_folder_is_named(world: World) -> None:
    with _folder() as folder:
        client = world.client("P2M", "tcp://127.0.0.1:1", Text, store=folder / "missing" / "x.db", ssl=None)
        with pytest.raises(StoreError, match=r"make the folder .*missing first$"):
            await client.start()


@scenario
async def requests_and_stores_do_not_go_together(world: World) -> None:
    for make in (lambda: world.client("AR", "tcp://127.0.0.1:1", store="x", ssl=None),
                 lambda: world.server("AR", store="x")):  # fmt: skip
        with pytest.raises(ValueError, match="a request is never executed twice"):
            make()


@scenario
async def what_was_not_taken_before_stop_waits_for_the_next_start(world: World) -> None:
    """It is not handed out before that, or it would be delivered twice."""
    with _folder() as folder:
        path = folder / "in.db"
        for pattern in ("P2P", "P2M"):
            path = folder / f"{pattern}.db"
            server = world.server(pattern, Text, store=path)
            await server.start()
            client = world.client(pattern, server.address, Text)
            async with client:
                for number in range(100):
                    await client.send(f"{number}")
                await until(lambda server=server: server.data_count() == 100)
                taken = [await server.data_get() for _ in range(10)]
                peer = (await server.message_get()).peer
                mailboxes = [server, server.link(peer)] if pattern == "P2P" else [server]
                held = await server.message_get(ack=False)
                assert (taken, held.data) == ([f"{number}" for number in range(10)], "11")
                await server.stop()
            for mailbox in mailboxes:
                assert mailbox.data_empty()
                assert mailbox.data_get_all() == []
                assert mailbox.data_count() == 0
            with pytest.raises(EndOfData):
                await server.data_get()
            held.ack()
            server = world.server(pattern, Text, store=path)
            async with server:
                assert server.data_get_all() == [f"{number}" for number in range(11, 100)]


@scenario
async def a_client_leaves_in_its_store_what_it_has_not_taken(world: World) -> None:
    with _folder() as folder:
        path = folder / "in.db"
        async with world.server("P2P", Text) as server:
            client = world.client("P2P", server.address, Text, store=path)
            await client.start()
            await server.wait_connected()
            for number in range(10):
                await server.send(f"{number}")
            await until(lambda: client.data_count() == 10)
            assert await client.data_get() == "0"
            await client.stop()
            with pytest.raises(EndOfData):
                await client.data_get()
            again = world.client("P2P", server.address, Text, store=path)
            await again.start()
            assert again.data_get_all() == [f"{number}" for number in range(1, 10)]
            await again.stop()


@scenario
async def what_is_over_does_not_wait_for_the_collector(world: World) -> None:
    """As in tests/core/test_freed.py, and with what carries the bytes."""

    def answer(request: Any) -> bytes:
        if request.data == b"fail":
            raise ValueError
        return bytes(request.data)

    for framing in (Linked(), Lines()):
        with without_collector() as left, logged(logging.CRITICAL):
            async with world.server("AR", framing=framing, handler=world.handler(answer)) as server:
                client = world.client("AR", server.address, framing=framing)
                await client.start()
                for number in range(CONVERSATIONS):
                    with suppress(AnswerError, PeerLost):
                        await client.ask(b"x" if number % 4 else b"fail", 15)
                assert left() == []
                await client.stop()
