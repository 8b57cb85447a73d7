"""Framings and formats for devices, and the calls for streams of bytes, on every pair of front ends."""

from __future__ import annotations

import asyncio
import decimal
from dataclasses import dataclass
from typing import Any

import pytest

from linkbox import (
    Bytes,
    Cobs,
    DecimalPrefixed,
    DecodeError,
    Delimited,
    Enclosed,
    EndOfData,
    EventKind,
    FixedSize,
    FormatError,
    Framing,
    Incomplete,
    Json,
    JsonStream,
    LengthPrefixed,
    Limits,
    Lines,
    MailboxEmpty,
    Netstring,
    Raw,
    Skip,
    Slip,
    Stage,
    StateError,
    Text,
    TooLarge,
    Typed,
    VarintPrefixed,
)
from tests.conformance.fronts import Ear, World, until

DEVICE_SCENARIOS: list[Any] = []


def scenario(function: Any) -> Any:
    DEVICE_SCENARIOS.append(function)
    return function


class Bars(Framing):
    """What a user may write."""

    def encode(self, payload: bytes) -> bytes:
        return payload + b"|"

    def decoder(self, limit: int) -> Any:
        return BarDecoder()


class BarDecoder:
    rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *messages, self.rest = (self.rest + data).split(b"|")
        return messages

    def eof(self) -> list[bytes]:
        return []


FRAMINGS: list[Framing] = [
    Lines(),
    Delimited(b"\r", receive=(b"\r\n", b"\r")),
    LengthPrefixed(3),
    LengthPrefixed(2, offset=2, adjust=-4, header=b"\3\0"),
    FixedSize(7),
    VarintPrefixed(),
    DecimalPrefixed(b" "),
    Netstring(),
    JsonStream(),
    Enclosed(b"\x0b", b"\x1c\r"),
    Enclosed(b"\x02", b"\x03", checksum=lambda data: bytes([sum(data) % 256]), checksum_after=True),
    Slip(),
    Cobs(),
    Bars(),
]


@scenario
async def every_framing_in_every_pattern(world: World) -> None:
    handler = world.handler(lambda request: request.data[::-1])
    for framing in FRAMINGS:
        async with (
            world.server("P2P", framing=framing) as server,
            world.client("P2P", server.address, framing=framing) as client,
        ):
            for payload in (b"1234567", b"7654321"):
                await client.send(payload)
                assert await server.data_get(5) == payload
                await server.send(payload)
                assert await client.data_get(5) == payload
            await client.end()
        async with world.server("P2M", framing=framing) as server:
            client = world.client("P2M", server.address, framing=framing)
            assert await client.send_many([b"1234567"] * 3) == 3
            assert [await server.data_get(5) for _ in range(3)] == [b"1234567"] * 3
        async with (
            world.server("AR", framing=framing, handler=handler) as server,
            world.client("AR", server.address, framing=framing, keep_alive=True) as client,
        ):
            assert await client.ask(b"1234567", 5) == b"7654321"
            assert await client.ask(b"7654321", 5) == b"1234567"


@scenario
async def bytes_up_to_a_separator(world: World) -> None:
    async with world.server("P2P", framing=Raw()) as server:
        client = await world.client("P2P", server.address, framing=Raw()).start()
        assert server.data_peek(10) == b""
        waiting = asyncio.create_task(server.data_get_until(b"\r\n", 15))
        for part in (b"220 rea", b"dy\r", b"\nlogin: ", b"a;b"):
            await client.send(part)
            await asyncio.sleep(0)
        assert await waiting == b"220 ready"
        assert await server.data_get_until((b"> ", b"login: "), 5, keep=True) == b"login: "
        assert await server.data_get_until(b";", 5) == b"a"
        await until(lambda: server.data_peek(10) == b"b")
        with pytest.raises(MailboxEmpty, match="no separator has arrived; 1 bytes are waiting"):
            await server.data_get_until(b";", 0)
        with pytest.raises(MailboxEmpty, match="1 bytes are waiting"):
            await server.data_get_until(b";", 0.01)
        await client.send(b"cdef")
        assert await server.bytes_get(3, 5) == b"bcd"
        assert server.data_peek(1) == b"e"
        [peer] = server.peers()
        view = server.link(peer)
        assert view.data_peek(9) == b"ef"
        await client.end()
        with pytest.raises(Incomplete, match="no separator in the last 2 bytes") as caught:
            await view.data_get_until(b";", 5)
        assert caught.value.available == 2
        assert await view.bytes_get(2, 5) == b"ef"
        with pytest.raises(EndOfData):
            await view.data_get_until(b";", 5)
        await client.stop()


@scenario
async def a_separator_behind_more_than_the_mailbox_usually_holds(world: World) -> None:
    limits = Limits(mailbox_bytes=1000, mailbox_total=100_000, message=1000)
    async with (
        world.server("P2P", limits=limits) as server,
        world.client("P2P", server.address) as client,
    ):
        sending = asyncio.create_task(_send_parts(client, [b"x" * 500] * 100 + [b"yz;"]))
        assert await server.data_get_until(b"z;", 15) == b"x" * 50_000 + b"y"
        await sending
        sending = asyncio.create_task(_send_parts(client, [b"x" * 500] * 300))
        with pytest.raises(TooLarge, match=r"no separator in 1[0-9]* bytes; .*mailbox_total"):
            await server.data_get_until(b";", 15)
        assert await server.bytes_get(100_000, 15) == b"x" * 100_000
        await sending
        await client.send(b";")
        assert await server.data_get_until(b";", 15) == b"x" * 50_000


async def _send_parts(client: Any, parts: list[bytes]) -> None:
    for part in parts:
        await client.send(part)


@scenario
async def streams_are_for_bytes_only(world: World) -> None:
    for pattern, format in (("P2P", Json), ("AR", Bytes)):
        async with world.server(pattern, format) as server:
            with pytest.raises(StateError, match=r"data_peek\(\) is for .* format=Bytes"):
                server.data_peek(1)
            with pytest.raises(StateError, match=r"data_get_until\(\) is for"):
                await server.data_get_until(b";", 0)
            with pytest.raises(StateError, match=r"bytes_get\(\) is for"):
                await server.bytes_get(1, 0)
    async with world.server("P2P") as server:
        for bad in ("x", b"", (), (b"a", "b"), None):
            with pytest.raises(TypeError, match="separator="):
                await server.data_get_until(bad, 0)
        with pytest.raises(ValueError, match="count=0"):
            server.data_peek(0)


@dataclass
class Question:
    number: int


@dataclass
class Answer:
    text: str


@scenario
async def text_and_two_types(world: World) -> None:
    latin = Text("latin-1")
    async with (
        world.server("P2P", latin, framing=Lines()) as server,
        world.client("P2P", server.address, Text, framing=Lines()) as client,
    ):
        with pytest.raises(FormatError, match="cannot send a bytes over Text"):
            await client.send(b"x")
        await client.send("12 °C")
        assert await server.data_get(5) == "12 Â°C"
        ear = Ear()
        client.add_callback(ear, EventKind.ERROR)
        await server.send("12 °C")
        await server.send("ok")
        assert await client.data_get(5) == "ok"
        assert "not UTF-8" in str((await ear.wait(EventKind.ERROR)).error)
    pair = Typed(Question, Answer)
    handler = world.handler(lambda request: Answer("*" * request.data.number))
    async with (
        world.server("AR", pair, handler=handler) as server,
        world.client("AR", server.address, pair, keep_alive=True) as client,
    ):
        assert await client.ask(Question(3), 5) == Answer("***")
        with pytest.raises(FormatError, match="expected Question, got Answer"):
            await client.ask(Answer("?"), 5)
    with pytest.raises(TypeError, match="only AR has them"):
        world.server("P2P", pair)


class Even:
    """A format of a user's, which drops odd numbers."""

    name = "even"

    def encode(self, value: int) -> bytes:
        return b"%d" % value

    def decode(self, data: bytes) -> int:
        if int(data) % 2:
            raise Skip
        return int(data)


@scenario
async def a_format_may_skip_messages(world: World) -> None:
    async with world.server("P2P", Even) as server, world.client("P2P", server.address, Even) as client:
        ear = Ear()
        server.add_callback(ear, EventKind.DATA, EventKind.ERROR)
        receipts = [await client.send(number) for number in range(6)]
        assert [await server.data_get(5) for _ in range(3)] == [0, 2, 4]
        for receipt in receipts:
            assert await receipt.wait(Stage.TAKEN, 5) is Stage.TAKEN
        statistics = server.statistics()
        assert (statistics.skipped, statistics.rejected, statistics.messages_received) == (3, 0, 3)
        await until(lambda: len(ear.kinds()) == 3)
        assert ear.kinds() == [EventKind.DATA] * 3


@scenario
async def a_request_that_is_skipped_fails(world: World) -> None:
    handler = world.handler(lambda request: request.data + (1 if request.data == 2 else 2))
    async with (
        world.server("AR", Even, handler=handler) as server,
        world.client("AR", server.address, Even, keep_alive=True) as client,
    ):
        with pytest.raises(Exception, match="skipped"):
            await client.ask(1, 5)
        with pytest.raises(DecodeError, match="the format has skipped the response"):
            await client.ask(2, 5)
        assert await client.ask(4, 5) == 6
        assert (server.statistics().skipped, client.statistics().skipped) == (1, 1)


@scenario
async def a_line_that_is_skipped_is_no_response(world: World) -> None:
    """A device sends a keep-alive line between a request and its response."""
    async with (
        world.server("P2P", Even, framing=Lines()) as device,
        world.client("AR", device.address, Even, framing=Lines(), keep_alive=True) as client,
    ):
        asking = asyncio.create_task(client.ask(2, 15))
        assert await device.data_get(15) == 2
        await device.send(1)
        await device.send(4)
        assert await asking == 4
        assert client.statistics().skipped == 1


@scenario
async def json_with_a_default(world: World) -> None:
    format = Json(default=float)
    async with world.server("P2P", format) as server, world.client("P2P", server.address, Json) as client:
        await server.wait_connected(timeout=5)
        await server.send({"x": [decimal.Decimal("1.5"), Half()]})
        assert await client.data_get(5) == {"x": ["1.5", 0.5]}
        with pytest.raises(FormatError, match="does not fit JSON"):
            await server.send(object())
        with pytest.raises(FormatError, match="JSON has no nan"):
            await server.send([Half(float("nan"))])


class Half:
    """A number of another library."""

    def __init__(self, value: float = 0.5) -> None:
        self._value = value

    def __float__(self) -> float:
        return self._value


@scenario
async def a_bad_frame_of_a_device_costs_no_message(world: World) -> None:
    """A framing without checksums on one side, and one with them on the other."""
    bare = Enclosed(b"\x02", b"\x03")
    async with world.server("P2M", framing=Enclosed(b"\x02", b"\x03", checksum=lambda data: b"!")) as server:
        ear = Ear()
        server.add_callback(ear, EventKind.ERROR)
        client = world.client("P2M", server.address, framing=bare)
        await client.send_many([b"a!", b"b?", b"c!"])
        assert [await server.data_get(5), await server.data_get(5)] == [b"a", b"c"]
        error = (await ear.wait(EventKind.ERROR)).error
        assert isinstance(error, DecodeError) and "wrong checksum, b'?' instead of b'!'" in str(error)
        assert server.statistics().rejected == 1
