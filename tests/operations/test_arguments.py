"""A wrong argument is an error that names the parameter: in both front ends, interpreted and compiled."""

from __future__ import annotations

import asyncio
import inspect
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import linkbox
from linkbox import EventKind, MailboxEmpty, Peer, Stage, aio

FRONTS = pytest.mark.parametrize("front", [linkbox, aio], ids=["threaded", "aio"])
SERVERS = ("ServerP2P", "ServerP2M", "ServerAR")
CLIENTS = ("ClientP2P", "ClientP2M", "ClientAR")


class Odd:
    """Of no type that any parameter takes."""


OPTIONS: dict[str, tuple[Any, ...]] = {
    "address": (7, None, b"x", Odd()),
    "format": (7, "json", None, Odd()),
    "framing": (7, "lines", None, Odd()),
    "limits": (7, "x", 0, {}, Odd()),
    "overflow": (7, None, Odd()),
    "store": (7, b"x", Odd()),
    "name": (7, b"x", Odd()),
    "ssl": (7, "x", Odd(), False),
    "secret": (7, Odd()),
    "broker": (7, "x", Odd()),
    "accept": (7, "x", Odd()),
    "insecure": ("no", None, 1, Odd()),
    "max_peers": ("1", 1.0, None, True, Odd()),
    "handler": (7, "x", Odd()),
    "workers": ("1", 1.0, None, True, Odd()),
    "connect_timeout": ("1", None, Odd()),
    "reconnect": (7, "x", False, Odd()),
    "blocking": ("no", None, 1, Odd()),
    "linger": ("1", None, Odd()),
    "keep_alive": ("no", None, 1, Odd()),
    "dialogue": (7, "x", Odd()),
    "connections": ("1", 1.0, True, Odd()),
    "idle_timeout": ("1", Odd()),
    "half_close": ("1", None, Odd()),
    "newest_wins": ("no", None, 1, Odd()),
    "proxy_protocol": ("10.0.0.0/8", None, 1, [1], Odd()),
}
OUT_OF_RANGE = {
    "overflow": "x",
    "max_peers": 0,
    "workers": -1,
    "connect_timeout": 0,
    "linger": -0.5,
    "idle_timeout": 0,
    "half_close": -1,
}


@FRONTS
@pytest.mark.parametrize("name", SERVERS + CLIENTS)
def test_options(front: Any, name: str) -> None:
    kind = getattr(front, name)
    taken = [each for each in inspect.signature(kind.__init__).parameters if each != "self"]
    assert set(taken) <= set(OPTIONS), "an option that is not in the table"
    for option in taken:
        for wrong in OPTIONS[option]:
            arguments = {"address": "tcp://127.0.0.1:9"} | {option: wrong}
            with pytest.raises((TypeError, linkbox.AddressError), match=option):
                kind(**arguments)
        if option in OUT_OF_RANGE:
            with pytest.raises(ValueError, match=f"{option}={OUT_OF_RANGE[option]!r}"):
                kind("tcp://127.0.0.1:9", **{option: OUT_OF_RANGE[option]})


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "timeout": ("1", b"x", [], Odd()),
    "count": ("1", 1.0, None, True, Odd()),
    "n": ("1", 1.0, None, True, Odd()),
    "separator": ("x", 7, None, b"", (), (b"a", "b"), Odd()),
    "keep": ("no", None, 1, Odd()),
    "ack": ("no", None, 1, Odd()),
    "wait": ("no", None, 1, Odd()),
    "peer": ("x", 7, None, Odd()),
    "to": ("x", 7, Odd()),
    "reason": (7, b"x", None, Odd()),
    "stage": ("SENT", 2, Odd()),
}
TESTED_ELSEWHERE = {"data", "iterable", "value", "fn", "kinds"}
"""What the format checks, what can be iterated over, and callbacks."""
PEER = Peer("nobody", "tcp://127.0.0.1:9", "0" * 32, 0.0)
RIGHT: dict[str, Any] = {
    "data": b"x", "iterable": [b"x"], "count": 1, "timeout": 0, "stage": Stage.SENT, "ack": True,
    "n": 1, "separator": b";", "keep": True,
    "wait": False, "to": None, "peer": PEER, "reason": "why",
}  # fmt: skip


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def outcome(method: Any, arguments: dict[str, Any]) -> Any:
    try:
        return await done(method(**arguments))
    except Exception as error:
        return error


async def refuse_all(thing: Any) -> set[str]:
    """Give each method each wrong argument; returns the parameters."""
    seen = set()
    for name in dir(thing):
        method = getattr(thing, name) if not name.startswith("_") else None
        if not inspect.ismethod(method):
            continue
        parameters = list(inspect.signature(method).parameters)
        for parameter in set(parameters) - TESTED_ELSEWHERE:
            seen.add(parameter)
            for wrong in ARGUMENTS[parameter]:
                right = {each: RIGHT[each] for each in parameters if each in RIGHT}
                found = await outcome(method, right | {parameter: wrong})
                call = f"{thing}.{name}({parameter}={wrong!r}): {found!r}"
                assert isinstance(found, TypeError) and f"{parameter}=" in str(found), call
    return seen


@FRONTS
def test_calls(front: Any) -> None:
    async def main() -> None:
        started: list[Any] = []
        try:
            for server_name, client_name in zip(SERVERS, CLIENTS, strict=True):
                server = await done(getattr(front, server_name)("tcp://127.0.0.1:0").start())
                started.append(server)
                options = {"keep_alive": True} if client_name == "ClientAR" else {}
                client = await done(getattr(front, client_name)(server.address, **options).start())
                started.append(client)
                assert {"timeout", "count", "peer", "reason"} <= await refuse_all(server)
                assert "timeout" in await refuse_all(client)
            server, client = started[:2]
            await done(server.wait_connected(timeout=20))
            (peer,) = server.peers()
            assert await refuse_all(server.link(peer)) == {
                "timeout",
                "count",
                "ack",
                "n",
                "separator",
                "keep",
            }
            assert await refuse_all(await done(client.send(b"x"))) == {"timeout", "stage"}
            assert await done(server.data_get(20)) == b"x"  # nothing was sent before it
            assert client.data_empty()
        finally:
            for each in reversed(started):
                await done(each.stop())

    asyncio.run(main())


@FRONTS
def test_numbers_of_other_libraries_are_seconds(front: Any) -> None:
    async def main() -> None:
        server = await done(front.ServerP2P("tcp://127.0.0.1:0").start())
        for timeout in (0, 0.0, False, Decimal("0.001"), Fraction(1, 1000)):
            with pytest.raises(MailboxEmpty):
                await done(server.data_get(timeout))
        assert await done(server.stop(Fraction(5)))

    asyncio.run(main())
    assert front.ClientP2M("tcp://127.0.0.1:9", connect_timeout=Decimal(1), linger=Fraction(1, 2))


@FRONTS
def test_callbacks_and_handlers(front: Any) -> None:
    server = front.ServerAR("tcp://127.0.0.1:0")
    for wrong in (7, "x", None, Odd()):
        with pytest.raises(TypeError, match="callback"):
            server.add_callback(wrong)
        with pytest.raises(TypeError, match="EventKind"):
            server.add_callback(print, EventKind.DATA, wrong)
        with pytest.raises(TypeError, match="EventKind"):
            server.on(wrong)(print)
        with pytest.raises(TypeError, match="handler"):
            server.handler(wrong)
