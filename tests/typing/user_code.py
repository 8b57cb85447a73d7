"""What a user writes, with the types promised in the documentation. Checked by test_types.py, never run.

Every ``type: ignore`` stands where a type checker must object; one that is not needed is an error.
"""

# mypy: warn-unused-ignores
# ruff: noqa: PGH003 - the codes of the two checkers differ
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false

from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, assert_type

import msgspec

from linkbox import (
    Bytes,
    ClientAR,
    ClientP2M,
    ClientP2P,
    Json,
    MsgPack,
    Request,
    ServerAR,
    ServerP2M,
    ServerP2P,
    Stage,
    Typed,
    aio,
)

URL = "tcp://127.0.0.1:9000"


class Point(msgspec.Struct):
    x: int


@dataclass
class Place:
    name: str


class Row(TypedDict):
    id: int


class Squeezed:
    """A format of bytes that is not Bytes: no inheritance, no annotation of name."""

    name = "squeezed"

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: bytes) -> bytes:
        return data


class Points:
    @property
    def name(self) -> str:
        return "points"

    def encode(self, value: Point) -> bytes:
        return b"%d" % value.x

    def decode(self, data: bytes) -> Point:
        return Point(int(data))


def p2p() -> None:
    a = ServerP2P(URL)
    assert_type(a.data_get(), bytes)
    assert_type(a.data_get_count(3), bytes)
    assert_type(a.data_get_all(), list[bytes])
    b = ClientP2P(URL, Bytes())
    assert_type(b.data_get(), bytes)
    assert_type(b.data_get_count(3), bytes)
    c = ServerP2P(URL, format=Bytes)
    assert_type(c.data_get(), bytes)
    assert_type(c.data_get_count(3), bytes)
    d = ServerP2P(URL, format=Typed(Point))
    assert_type(d.data_get(), Point)
    assert_type(d.data_get_count(3, timeout=1.0), list[Point])
    d.send(Point(1))
    d.send(3)  # type: ignore
    for point in d:
        assert_type(point, Point)
    assert_type(ClientP2P(URL, Typed(Place)).data_get(), Place)
    assert_type(ClientP2P(URL, Typed(Row)).data_get(), Row)
    assert_type(ClientP2P(URL, Typed(list[int])).data_get_count(2), list[list[int]])
    assert_type(ClientP2P(URL, Typed[int](Annotated[int, msgspec.Meta(ge=0)])).data_get(), int)
    assert_type(ClientP2P(URL, Typed[int | str](int | str)).data_get(), int | str)


def objects() -> None:
    a = ServerP2P(URL, format=Json)
    assert_type(a.data_get(), Any)
    assert_type(a.data_get_count(3), list[Any])
    b = ServerP2P(URL, format=Json())
    assert_type(b.data_get(), Any)
    assert_type(b.data_get_count(3), list[Any])
    d = ClientP2P(URL, format=MsgPack())
    assert_type(d.data_get(), Any)
    assert_type(d.data_get_count(3), list[Any])
    e = ClientP2P(URL, format=MsgPack(Point))
    assert_type(e.data_get(), Point)
    assert_type(e.data_get_count(3), list[Point])
    assert_type(MsgPack[int | str](int | str).decode(b""), int | str)


def own_formats() -> None:
    a = ServerP2P(URL, Squeezed())
    assert_type(a.data_get(), bytes)
    assert_type(a.data_get_count(3), list[bytes])
    b = ServerP2P(URL, Points)
    assert_type(b.data_get(), Point)
    assert_type(b.data_get_count(3), list[Point])
    ServerP2P(URL, Typed)  # type: ignore
    ServerP2P(URL, "json")  # type: ignore


def p2m() -> None:
    server = ServerP2M(URL, Typed(Point))
    assert_type(server.data_get(), Point)
    assert_type(server.data_get_count(3), list[Point])
    server.send(Point(1))  # type: ignore
    server.broadcast(Point(1))  # type: ignore
    server.end()  # type: ignore
    client = ClientP2M(URL, Typed(Point))
    client.send(Point(1))
    client.send_many([Point(1), Point(2)])
    client.send(b"1")  # type: ignore
    client.data_get()  # type: ignore
    ClientP2M(URL).send(b"1")


def ask_response() -> None:
    a = ServerAR(URL)
    assert_type(a.data_get(), Request[bytes])
    assert_type(a.data_get().data, bytes)
    b = ServerAR(URL, Typed(Point))
    assert_type(b.data_get(), Request[Point])
    assert_type(b.data_get_count(3), list[Request[Point]])
    b.data_get().answer(Point(2))
    b.data_get().answer(2)  # type: ignore
    c = ClientAR(URL, Typed(Point), keep_alive=True)
    assert_type(c.ask(Point(1)), Point)
    assert_type(c.data_get_count(3), list[Point])
    assert_type(ClientAR(URL).ask(b"1"), bytes)


def by_hand(a: ServerP2P[bytes], b: ServerP2P[Point], c: ServerP2P[Any], d: ServerAR[Point]) -> None:
    """Annotations name the item type only, and take whatever the constructors give."""
    assert_type(a.data_get_count(3), bytes)
    assert_type(b.data_get_count(3), list[Point])
    assert_type(d.data_get_count(3), list[Request[Point]])
    assert_type(c.data_get(), Any)
    by_hand(ServerP2P(URL), ServerP2P(URL, Typed(Point)), ServerP2P(URL, Json), ServerAR(URL, Typed(Point)))
    by_hand(ServerP2P(URL, Bytes), ServerP2P(URL, Points()), ServerP2P(URL), ServerAR(URL, MsgPack(Point)))
    by_hand(b, b, c, d)  # type: ignore


async def awaiting() -> None:
    a = aio.ServerP2P(URL)
    assert_type(await (await a.start()).data_get(), bytes)
    assert_type(await a.data_get(), bytes)
    assert_type(await a.data_get_count(3), bytes)
    assert_type(a.data_get_all(), list[bytes])
    b = aio.ClientP2P(URL, Typed(Point))
    assert_type(await b.data_get(), Point)
    assert_type(await b.data_get_count(3), list[Point])
    assert_type((await b.message_get()).data, Point)
    async for point in b:
        assert_type(point, Point)
    await b.send("no point")  # type: ignore
    receipt = await b.send(Point(1))
    assert_type(await receipt, Stage)
    assert_type(receipt.failed, bool)
    c = aio.ServerAR(URL, Typed(Point))
    assert_type(await c.data_get(), Request[Point])
    d = aio.ClientAR(URL, Typed(Point))
    assert_type(await d.ask(Point(1)), Point)
    e = aio.ClientP2M(URL, Typed(Point))
    assert_type(await e.send_many([Point(1)]), int)
    e.data_get()  # type: ignore
    f = aio.ServerP2M(URL, Typed(Point))
    f.send(Point(1))  # type: ignore
