"""Servers of plain framings that devices and foreign programs talk to, on every pair of front ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from linkbox import (
    AnswerError,
    DecodeError,
    Dialogue,
    EndOfData,
    EventKind,
    FormatError,
    Json,
    LengthPrefixed,
    Lines,
    Linked,
    Raw,
    Skip,
    Text,
)
from tests.conformance.fronts import Ear, World

SERVING_SCENARIOS: list[Any] = []
LINES: dict[str, Any] = {"format": Text, "framing": Lines()}


def scenario(function: Any) -> Any:
    SERVING_SCENARIOS.append(function)
    return function


@scenario
async def a_server_that_greets(world: World) -> None:
    dialogue = Dialogue(greeting="220 ready")
    handler = world.handler(lambda request: request.data.upper())
    async with world.server("AR", **LINES, handler=handler, dialogue=dialogue) as server:
        for _ in range(2):
            async with world.client("P2P", server.address, **LINES) as device:
                assert await device.data_get(15) == "220 ready"
                await device.send("a")
                await device.send("b")
                assert [await device.data_get(15) for _ in range(2)] == ["A", "B"]
        reader = Dialogue(greeting=1)
        async with world.client("AR", server.address, **LINES, dialogue=reader) as client:
            assert await client.ask("c", 15) == "C"
    async with (
        world.server("AR", **LINES, dialogue=dialogue, accept=lambda info: True) as server,
        world.client("P2P", server.address, **LINES) as device,
    ):
        assert await device.data_get(15) == "220 ready"


def _fails(request: Any) -> Any:
    if request.data == 0:
        raise ZeroDivisionError("by zero")
    if request.data == 1:
        request.fail("no way")
    return request.data


@scenario
async def a_response_is_made_out_of_an_error(world: World) -> None:
    """The connection stays open, and responses given before arrive."""
    errors: list[Any] = []

    def on_error(request: Any, error: Exception) -> Any:
        errors.append(error)
        return [request, type(error).__name__]

    options: dict[str, Any] = {"format": Json, "framing": Lines()}
    handler, dialogue = world.handler(_fails), Dialogue(on_error=on_error)
    async with (
        world.server("AR", **options, handler=handler, dialogue=dialogue) as server,
        world.client("P2P", server.address, framing=Lines()) as device,
    ):
        ear = Ear()
        server.add_callback(ear, EventKind.ERROR)
        for line in (b"5", b"0", b"1", b"{", b"6"):
            await device.send(line)
        answers = [await device.data_get(15) for _ in range(5)]
        assert answers == [
            b"5",
            b'[0,"ZeroDivisionError"]',
            b'[1,"AnswerError"]',
            b'[null,"DecodeError"]',
            b"6",
        ]
        assert [type(each) for each in errors] == [ZeroDivisionError, AnswerError, DecodeError]
        assert "no way" in str(errors[1])
        assert isinstance((await ear.wait(EventKind.ERROR)).error, DecodeError)
    async with (
        world.server("AR", **options, dialogue=dialogue) as server,
        world.client("P2P", server.address, framing=Lines()) as device,
    ):
        await device.send(b"7")
        await server.data_get(15)  # and dropped
        assert await device.data_get(15) == b'[7,"AnswerError"]'
    async with (
        world.server("AR", **options, handler=handler, dialogue=dialogue, keep_alive=False) as server,
        world.client("P2P", server.address, framing=Lines()) as device,
    ):
        await device.send(b"{")
        assert await device.data_get(15) == b'[null,"DecodeError"]'
        with pytest.raises(EndOfData):
            await device.data_get(15)


@scenario
async def an_error_without_a_response_closes_behind_those_given(world: World) -> None:
    handler = world.handler(_fails)
    for on_error in (None, lambda request, error: None, lambda request, error: 1 / 0, lambda *both: object()):
        dialogue = Dialogue(on_error=on_error)
        async with (
            world.server("AR", Json, framing=Lines(), handler=handler, dialogue=dialogue) as server,
            world.client("P2P", server.address, framing=Raw()) as device,
        ):
            await device.send(b"4\n5\n0\n6\n")
            assert [await device.data_get_until(b"\n", 15) for _ in range(2)] == [b"4", b"5"]
            with pytest.raises(EndOfData):
                await device.data_get(15)


@scenario
async def a_handler_may_end_the_conversation_with_its_response(world: World) -> None:
    """As for QUIT of a mail server: the response arrives, then the connection is closed."""
    server = world.server("AR", **LINES)

    def handle(request: Any) -> Any:
        request.answer(request.data.upper())
        if request.data == "quit":
            server.disconnect(request.peer)

    server.handler(world.handler(handle))
    async with server, world.client("P2P", server.address, **LINES) as device:
        for line in ("a", "quit"):
            await device.send(line)
            assert await device.data_get(15) == line.upper()
        with pytest.raises(EndOfData):
            await device.data_get(15)


class Alive:
    """A format that drops lines which only keep a connection alive."""

    name = "alive"

    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, data: bytes) -> str:
        if data == b"alive":
            raise Skip
        return data.decode()


@scenario
async def a_line_that_is_skipped_is_no_request(world: World) -> None:
    handler = world.handler(lambda request: request.data.upper())
    async with (
        world.server("AR", Alive, framing=Lines(), handler=handler) as server,
        world.client("P2P", server.address, **LINES) as device,
    ):
        for line in ("a", "alive", "alive", "b"):
            await device.send(line)
        assert [await device.data_get(15) for _ in range(2)] == ["A", "B"]
        assert server.statistics().skipped == 2


@scenario
async def responses_in_another_framing(world: World) -> None:
    """Commands are lines; what the device sends has a length before it."""
    blocks = Dialogue(answer=LengthPrefixed(2))
    async with (
        world.server("P2P", framing=Raw()) as device,
        world.client("AR", device.address, framing=Lines(), keep_alive=True, dialogue=blocks) as client,
    ):
        for response in (b"a\nb\nc", b"\n", b""):
            asking = asyncio.create_task(client.ask(b"CURVE?", 15))
            assert await device.data_get_until(b"\n", 15) == b"CURVE?"
            await device.send(len(response).to_bytes(2) + response)
            assert await asking == response


@scenario
async def dialogues_that_no_server_can_have(world: World) -> None:
    for options in ({}, {"framing": Raw()}, {"framing": Linked()}):
        with pytest.raises(ValueError, match="dialogue= is for plain framings"):
            world.server("AR", dialogue=Dialogue(), **options)
    with pytest.raises(TypeError, match="greeting= of a server is the message to send"):
        world.server("AR", **LINES, dialogue=Dialogue(greeting=lambda line: True))
    for greeting in (220, "two\nlines"):
        with pytest.raises(FormatError):
            world.server("AR", **LINES, dialogue=Dialogue(greeting=greeting))
    with pytest.raises(TypeError, match="on_error= takes"):
        Dialogue(on_error=1)  # type: ignore[arg-type]
    async with world.server("P2P", **LINES) as device:
        for framing in (Raw(), Linked()):
            with pytest.raises(ValueError, match="answer= takes a plain framing"):
                world.client("AR", device.address, **LINES, dialogue=Dialogue(answer=framing))
