"""Requests to a device over a plain framing, on every pair of front ends. The device is a P2P server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from linkbox import (
    Backoff,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    Dialogue,
    EndOfData,
    EventKind,
    Limits,
    Lines,
    PeerLost,
    Raw,
    StateError,
    Text,
)
from tests.conformance.fronts import Ear, World, until

DIALOGUE_SCENARIOS: list[Any] = []
LINES: dict[str, Any] = {"format": Text, "framing": Lines()}


def scenario(function: Any) -> Any:
    DIALOGUE_SCENARIOS.append(function)
    return function


@scenario
async def requests_take_turns_on_one_connection(world: World) -> None:
    async with (
        world.server("P2P", **LINES) as device,
        world.client("AR", device.address, **LINES, keep_alive=True) as client,
    ):
        asking = [asyncio.create_task(client.ask(f"q{number}", 15)) for number in range(3)]
        await client.send("q3")
        seen = []
        for _ in range(4):
            question = await device.data_get(15)
            assert device.data_count() == 0, "the others wait for their turn"
            seen.append(question)
            await device.send("re:" + question)
        assert sorted(seen) == ["q0", "q1", "q2", "q3"]
        assert await asyncio.gather(*asking) == ["re:q0", "re:q1", "re:q2"]
        assert await client.data_get(15) == "re:q3"
        assert device.statistics().connections_total == 1


@scenario
async def one_connection_at_a_time(world: World) -> None:
    async with (
        world.server("P2P", **LINES, max_peers=9) as device,
        world.client("AR", device.address, **LINES) as client,
        world.client("AR", device.address, **LINES, connections=2) as two,
    ):
        asking = [asyncio.create_task(client.ask(f"q{number}", 15)) for number in range(3)]
        for number in range(3):
            message = await device.message_get(15)
            assert device.data_count() == 0
            assert device.statistics().connections_total == number + 1
            await device.send("re:" + message.data, to=message.peer)
        assert await asyncio.gather(*asking) == ["re:q0", "re:q1", "re:q2"]
        asking = [asyncio.create_task(two.ask(f"q{number}", 15)) for number in range(3)]
        first, second = await device.message_get(15), await device.message_get(15)
        assert first.peer != second.peer
        for message in (second, first):
            await device.send("re:" + message.data, to=message.peer)
        message = await device.message_get(15)
        await device.send("re:" + message.data, to=message.peer)
        assert await asyncio.gather(*asking) == ["re:q0", "re:q1", "re:q2"]


@scenario
async def a_greeting_and_a_response_of_several_lines(world: World) -> None:
    mail = Dialogue(
        greeting=lambda line: line.startswith("220 "), answer=lambda line: not line.startswith("250-")
    )
    async with (
        world.server("P2P", **LINES) as device,
        world.client("AR", device.address, **LINES, keep_alive=True, dialogue=mail) as client,
    ):
        asking = asyncio.create_task(client.ask("EHLO", 15))
        await device.wait_connected(timeout=15)
        await device.send("220-mail.example")
        await device.send("220 ready")
        assert await device.data_get(15) == "EHLO"
        await device.send("250-SIZE")
        await device.send("250 HELP")
        assert await asking == ["250-SIZE", "250 HELP"]
    two = Dialogue(greeting=1, answer=2)
    async with (
        world.server("P2P", **LINES) as device,
        world.client("AR", device.address, **LINES, keep_alive=True, dialogue=two) as client,
    ):
        asking = asyncio.create_task(client.ask("a", 15))
        await device.wait_connected(timeout=15)
        for line in ("hello", "1/2 a", "2/2 a"):
            await device.send(line)
            if line == "hello":
                assert await device.data_get(15) == "a"
        assert await asking == ["1/2 a", "2/2 a"]


@scenario
async def messages_that_nobody_has_asked_for(world: World) -> None:
    async with (
        world.server("P2P", **LINES) as device,
        world.client("AR", device.address, **LINES, keep_alive=True, limits=Limits(asks=3)) as client,
    ):
        ear = Ear()
        client.add_callback(ear, EventKind.DATA, EventKind.OVERFLOW)
        asking = asyncio.create_task(client.ask("a", 15))
        assert await device.data_get(15) == "a"
        for line in ("1/2 a", "2/2 a"):
            await device.send(line)
        assert await asking == "1/2 a"
        await ear.wait(EventKind.DATA)
        assert await client.data_get(15) == "2/2 a"
        for number in range(5):
            await device.send(f"alarm {number}")
        await ear.wait(EventKind.OVERFLOW, 2)
        assert [await client.data_get(15) for _ in range(3)] == ["alarm 0", "alarm 1", "alarm 2"]


@scenario
async def commands_without_a_response(world: World) -> None:
    for keep_alive in (True, False):
        async with (
            world.server("P2P", **LINES, max_peers=9) as device,
            world.client("AR", device.address, **LINES, keep_alive=keep_alive) as client,
        ):
            await client.tell("output on", 15)
            await client.tell("volt 5", 15)
            asking = asyncio.create_task(client.ask("volt?", 15))
            assert [await device.data_get(15) for _ in range(2)] == ["output on", "volt 5"]
            message = await device.message_get(15)
            await device.send("5.0", to=message.peer)
            assert await asking == "5.0"
            if keep_alive:
                asking = asyncio.create_task(client.ask("slow?", 15))
                assert await device.data_get(15) == "slow?"
                with pytest.raises(DeadlineExceeded, match="was not sent within"):
                    await client.tell("late", 0.01)
                await device.send("yes")
                assert await asking == "yes"
    async with world.server("AR") as server, world.client("AR", server.address) as client:
        with pytest.raises(StateError, match="needs a plain framing"):
            await client.tell(b"x")


@scenario
async def a_late_response_is_not_taken_for_another(world: World) -> None:
    numbered = Dialogue(match=lambda ask, answer: answer.split()[0] == ask.split()[0])
    async with (
        world.server("P2P", **LINES) as device,
        world.client("AR", device.address, **LINES, keep_alive=True, dialogue=numbered) as client,
    ):
        with pytest.raises(DeadlineExceeded):
            await client.ask("1 slow?", 0.5)
        assert await device.data_get(15) == "1 slow?"
        asking = asyncio.create_task(client.ask("2 quick?", 15))
        assert await device.data_get(15) == "2 quick?"
        await device.send("1 late")
        await device.send("2 yes")
        assert await asking == "2 yes"
        assert await client.data_get(15) == "1 late"
        assert device.statistics().connections_total == 1


@scenario
async def without_a_match_a_late_response_costs_the_connection(world: World) -> None:
    """Requests that waited for their turn are sent on the next connection."""
    async with (
        world.server("P2P", **LINES, max_peers=2) as device,
        world.client("AR", device.address, **LINES, keep_alive=True) as client,
    ):
        slow = asyncio.create_task(client.ask("slow?", 1.5))
        first = await device.message_get(15)
        waiting = asyncio.create_task(client.ask("next?", 15))
        await client.send("last?")
        with pytest.raises(DeadlineExceeded):
            await slow
        for _ in range(2):
            message = await device.message_get(15)
            assert message.data in ("next?", "last?") and message.peer != first.peer
            await device.send("re:" + message.data, to=message.peer)
        assert await waiting == "re:next?"
        assert await client.data_get(15) == "re:last?"


@scenario
async def a_device_that_closes_or_breaks_the_dialogue(world: World) -> None:
    greeted = Dialogue(greeting=1, answer=lambda line: line["no such key"])
    async with (
        world.server("P2P", **LINES) as device,
        world.client("AR", device.address, **LINES, keep_alive=True, dialogue=greeted) as client,
    ):
        asking = asyncio.create_task(client.ask("a", 15))
        await device.wait_connected(timeout=15)
        device.disconnect(device.peers()[0], "no greeting")
        with pytest.raises(PeerLost):
            await asking
        asking = asyncio.create_task(client.ask("b", 15))
        await device.wait_connected(timeout=15)
        await device.send("hello")
        assert await device.data_get(15) == "b"
        await device.send("c")
        with pytest.raises(PeerLost, match="a function of the Dialogue has raised TypeError"):
            await asking


@scenario
async def a_line_that_is_no_text(world: World) -> None:
    async with (
        world.server("P2P", framing=Lines()) as device,
        world.client("AR", device.address, **LINES, keep_alive=True, dialogue=Dialogue(answer=2)) as client,
    ):
        ear = Ear()
        client.add_callback(ear, EventKind.ERROR)
        asking = asyncio.create_task(client.ask("a", 15))
        assert await device.data_get(15) == b"a"
        await device.send(b"\xff")
        await device.send(b"good")
        with pytest.raises(DecodeError):
            await asking
        await device.send(b"\xff")
        assert isinstance((await ear.wait(EventKind.ERROR)).error, DecodeError)


@scenario
async def nobody_listens(world: World) -> None:
    server = await world.server("AR", framing=Lines()).start()
    address = server.address
    await server.stop()
    for options in ({}, {"framing": Lines()}):
        for keep_alive in (True, False):
            client = world.client("AR", address, keep_alive=keep_alive, **options)
            with pytest.raises(ConnectFailed):
                await client.ask(b"x", 0.5)
            await client.stop()


@scenario
async def dialogues_that_cannot_be(world: World) -> None:
    for options in ({"answer": 0}, {"answer": True}, {"answer": "250"}, {"match": 1}):
        with pytest.raises(TypeError, match=f"{next(iter(options))}= takes"):
            Dialogue(**options)  # type: ignore[arg-type]
    async with world.server("AR") as server:
        for greeting in (0, True, "220"):
            with pytest.raises(TypeError, match="greeting= of a client takes a number of messages"):
                world.client("AR", server.address, **LINES, dialogue=Dialogue(greeting=greeting))
        for framing in ({}, {"framing": Raw()}):
            with pytest.raises(ValueError, match="dialogue= is for plain framings"):
                world.client("AR", server.address, dialogue=Dialogue(), **framing)
        with pytest.raises(TypeError, match="dialogue= takes a Dialogue"):
            world.client("AR", server.address, dialogue=3, framing=Lines())
        with pytest.raises(ValueError, match="connections= is for plain framings"):
            world.client("AR", server.address, connections=2)
        with pytest.raises(ValueError, match="connections=0"):
            world.client("AR", server.address, connections=0, framing=Lines())


QUICK = Backoff(initial=0.01, maximum=0.05)


@scenario
async def a_device_that_goes_away_and_comes_back(world: World) -> None:
    """With ``reconnect=``, neither FIN nor a failed attempt ends the conversation."""
    device = await world.server("P2P", **LINES).start()
    ear = Ear()
    client = world.client("P2P", device.address, **LINES, reconnect=QUICK)
    client.add_callback(ear, EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.END)
    await client.start()
    await device.wait_connected(timeout=15)
    await device.send("one")
    assert await client.data_get(15) == "one"
    device.disconnect(device.peers()[0], "a restart")
    await ear.wait(EventKind.CONNECTED, 2)
    await device.wait_connected(timeout=15)
    await device.send("two")
    assert await client.data_get(15) == "two"
    await device.stop()
    await ear.wait(EventKind.DISCONNECTED, 2)
    with pytest.raises(StateError, match=r"is not connected: the next attempt is in|is not connected yet"):
        await client.send("lost")
    await device.start()
    await ear.wait(EventKind.CONNECTED, 3)
    await client.send("three")
    assert await device.data_get(15) == "three"
    kinds = [EventKind.CONNECTED, EventKind.DISCONNECTED]
    assert ear.kinds() == [*kinds, *kinds, EventKind.CONNECTED]
    await client.end()
    with pytest.raises(EndOfData):
        await client.data_get(15)
    await until(lambda: not client.peers())
    assert client.statistics().connections == 0
    await client.stop()
    await device.stop()


@scenario
async def a_conversation_after_the_last(world: World) -> None:
    """After the end, ``start()`` begins a new conversation, or raises; it never does nothing."""
    for options in (LINES, {"format": Text}):
        async with world.server("P2P", **options) as device:
            client = await world.client("P2P", device.address, **options, reconnect=None).start()
            for text in ("one", "two"):
                await client.send(text)
                assert await device.data_get(15) == text
                await client.end()
                await until(lambda client=client: not client.peers())
                await until(lambda device=device: not device.peers())
                await client.start()
            await client.end()
            await until(lambda client=client: not client.peers())
        with pytest.raises(ConnectFailed):
            await client.start()
        await client.stop()
