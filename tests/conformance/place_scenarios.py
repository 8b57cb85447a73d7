"""Peers of plain framings that fall silent, close one half, or come back, on every pair of front ends."""

from __future__ import annotations

from typing import Any

import pytest

from linkbox import (
    Backoff,
    ConnectFailed,
    EndOfData,
    EventKind,
    Lines,
    PeerLost,
    StateError,
    Text,
)
from tests.conformance.fronts import Ear, World, until

PLACE_SCENARIOS: list[Any] = []
LINES: dict[str, Any] = {"format": Text, "framing": Lines()}
FOR_EVER = 1000.0
QUICK = Backoff(initial=0.01, maximum=0.05)


def scenario(function: Any) -> Any:
    PLACE_SCENARIOS.append(function)
    return function


@scenario
async def a_peer_that_has_closed_its_half_gets_its_answer(world: World) -> None:
    """It may be answered until the server ends the conversation."""
    for by_view in (False, True):
        async with (
            world.server("P2P", **LINES, half_close=FOR_EVER) as server,
            world.client("P2P", server.address, **LINES) as client,
        ):
            ear = Ear()
            server.add_callback(ear, EventKind.END, EventKind.DISCONNECTED)
            await client.send("question")
            await client.end()
            message = await server.message_get(15)
            await ear.wait(EventKind.END)
            view = server.link(message.peer)
            with pytest.raises(EndOfData):
                await view.data_get(15)
            for number in range(3):
                await server.send(f"answer {number}", to=message.peer)
                assert await client.data_get(15) == f"answer {number}"
            await (view.end() if by_view else server.end())
            with pytest.raises(EndOfData):
                await client.data_get(15)
            with pytest.raises(StateError):
                await server.send("more", to=message.peer)
            assert (await ear.wait(EventKind.DISCONNECTED)).error is None
            await view.end()  # There is nothing left to end.


@scenario
async def the_time_for_an_answer_is_limited(world: World) -> None:
    for seconds in (0, 0.05):
        async with (
            world.server("P2P", **LINES, half_close=seconds) as server,
            world.client("P2P", server.address, **LINES) as client,
        ):
            ear = Ear()
            server.add_callback(ear, EventKind.DISCONNECTED)
            await client.end()
            with pytest.raises(EndOfData):
                await client.data_get(15)
            assert (await ear.wait(EventKind.DISCONNECTED)).error is None


@scenario
async def a_half_closed_peer_gives_its_slot_to_a_newcomer(world: World) -> None:
    async with (
        world.server("P2P", **LINES, half_close=FOR_EVER) as server,
        world.client("P2P", server.address, **LINES) as first,
    ):
        ear = Ear()
        server.add_callback(ear, EventKind.END, EventKind.DISCONNECTED)
        await first.send("one")
        await first.end()
        message = await server.message_get(15)
        await ear.wait(EventKind.END)
        await server.send("answer", to=message.peer)
        async with world.client("P2P", server.address, **LINES) as second:
            await second.send("two")
            assert await server.data_get(15) == "two"
            assert await first.data_get(15) == "answer"
            with pytest.raises(EndOfData):
                await first.data_get(15)
            assert (await ear.wait(EventKind.DISCONNECTED)).error is None
            assert len(server.peers()) == 1


@scenario
async def the_newest_connection_wins(world: World) -> None:
    """A device that lost its power comes back from the same host: its old connection is closed."""
    async with world.server("P2P", **LINES, newest_wins=True, half_close=0, max_peers=2) as server:
        ear = Ear()
        server.add_callback(ear, EventKind.DISCONNECTED)
        clients = []
        for number in range(3):
            client = world.client("P2P", server.address, **LINES)
            await client.start()
            await client.send(f"hello {number}")
            assert await server.data_get(15) == f"hello {number}"
            clients.append(client)
        lost = await ear.wait(EventKind.DISCONNECTED)
        assert isinstance(lost.error, PeerLost) and "was replaced by a new connection" in str(lost.error)
        with pytest.raises((PeerLost, EndOfData)):  # A unix socket has no reset.
            await clients[0].data_get(15)
        assert len(server.peers()) == 2
        for client in clients:
            await client.stop()
    async with world.server("P2P", **LINES) as server, world.client("P2P", server.address, **LINES) as client:
        await client.send("hello")
        other = world.client("P2P", server.address, **LINES)
        await other.start(wait=False)
        await until(lambda: server.statistics().refused)
        await other.stop()
        await client.send("still here")
        assert [await server.data_get(15) for _ in range(2)] == ["hello", "still here"]


@scenario
async def a_silent_peer_is_disconnected(world: World) -> None:
    for pattern in ("P2P", "P2M"):
        async with world.server(pattern, **LINES, idle_timeout=0.2) as server:
            ear = Ear()
            server.add_callback(ear, EventKind.DISCONNECTED)
            client = world.client("P2P", server.address, **LINES)
            await client.start()
            lost = await ear.wait(EventKind.DISCONNECTED)
            assert isinstance(lost.error, PeerLost) and "idle_timeout=0.2" in str(lost.error)
            with pytest.raises((PeerLost, EndOfData)):
                await client.data_get(15)
            await client.stop()


@scenario
async def a_client_leaves_a_silent_server(world: World) -> None:
    async with world.server("P2P", **LINES, max_peers=2) as server:
        client = world.client("P2P", server.address, **LINES, idle_timeout=0.2)
        await client.start()
        with pytest.raises(PeerLost, match=r"idle_timeout=0\.2"):
            await client.data_get(15)
        await client.stop()
        ear = Ear()
        client = world.client("P2P", server.address, **LINES, idle_timeout=0.2, reconnect=QUICK)
        client.add_callback(ear, EventKind.CONNECTED, EventKind.DISCONNECTED)
        await client.start()
        await ear.wait(EventKind.CONNECTED, 2)
        assert "idle_timeout=0.2" in str((await ear.wait(EventKind.DISCONNECTED)).error)
        await client.stop()


@scenario
async def options_that_are_for_plain_framings(world: World) -> None:
    wrong: list[dict[str, Any]] = [{"idle_timeout": 1}, {"newest_wins": True}, {"half_close": 0}]
    for options in wrong:
        with pytest.raises(ValueError, match=f"{next(iter(options))}= is for plain framings"):
            world.server("P2P", **options)
    for name, value in (("idle_timeout", 0), ("half_close", -1)):
        with pytest.raises(ValueError, match=f"{name}="):
            world.server("P2P", **LINES, **{name: value})
    with pytest.raises(TypeError, match="newest_wins="):
        world.server("P2M", **LINES, newest_wins=1)
    server = await world.server("P2P", **LINES).start()
    await server.stop()
    with pytest.raises(ValueError, match="idle_timeout= is for plain framings"):
        world.client("P2P", server.address, idle_timeout=1)
    with pytest.raises(ConnectFailed):
        await world.client("P2P", server.address, **LINES, reconnect=None, idle_timeout=1).start()
