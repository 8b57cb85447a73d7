"""What newcomers stumbled over, on every pair of front ends."""

from __future__ import annotations

import math
import socket
import threading
from typing import Any

import pytest

from linkbox import (
    AddressError,
    Backoff,
    ConnectFailed,
    EndOfData,
    EventKind,
    LengthPrefixed,
    Lines,
    MailboxEmpty,
    Refused,
    SessionLost,
    Stage,
)
from tests.conformance.fronts import Ear, World, until

TRAP_SCENARIOS: list[Any] = []
QUICK = Backoff(initial=0.01, maximum=0.05)


def scenario(function: Any) -> Any:
    TRAP_SCENARIOS.append(function)
    return function


@scenario
async def a_server_with_a_plain_framing_tells_a_linked_client(world: World) -> None:
    """The client's error names both framings; the server goes on."""
    for framing, name in ((Lines(), "lines"), (LengthPrefixed(), "length-prefixed")):
        for pattern in ("P2P", "P2M", "AR"):
            # The connection of the refused one may not be closed yet when the next one connects.
            more = {} if pattern == "AR" else {"max_peers": 2}
            async with world.server(pattern, framing=framing, **more) as server:
                client = world.client(pattern, server.address)
                calls = {"P2P": client.start, "P2M": lambda to=client: to.send(b"x")}
                with pytest.raises(Refused, match=f"the framing here is {name}, the client's is linked"):
                    await calls.get(pattern, lambda to=client: to.ask(b"x"))()
                await client.stop()
                async with world.client(pattern, server.address, framing=framing) as good:
                    if pattern != "AR":
                        await good.send(b"y")
                        assert await server.data_get(15) == b"y"


@scenario
async def a_client_that_is_turned_away_reads_the_name_of_the_option(world: World) -> None:
    async with world.server("P2P") as server, world.client("P2P", server.address):
        with pytest.raises(Refused, match=r"\(max_peers=1\)"):
            await world.client("P2P", server.address, reconnect=None).start()


@scenario
async def a_client_that_does_not_block_keeps_its_connection(world: World) -> None:
    """Not a connection for each message; ``linger=0`` is one."""
    for options, connections in (({}, 1), ({"linger": None}, 1), ({"linger": 0}, 5)):
        ear = Ear()
        async with world.server("P2M") as server:
            server.add_callback(ear, EventKind.CONNECTED, EventKind.DISCONNECTED)
            async with world.client("P2M", server.address, blocking=False, **options) as client:
                for number in range(5):
                    await client.send(b"%d" % number)
                    assert await server.data_get(15) == b"%d" % number
                    await client.flush(15)
                    if connections > 1:
                        await ear.wait(EventKind.DISCONNECTED, number + 1)
        assert ear.kinds().count(EventKind.CONNECTED) == connections


@scenario
async def timeouts_that_are_no_time(world: World) -> None:
    """One below 0 has passed, as of a deadline; which the error says. NaN is refused."""
    async with world.server("P2P") as server:
        with pytest.raises(MailboxEmpty, match=r"timeout=-1 does not wait; None waits for ever"):
            await server.data_get(-1)
        with pytest.raises(MailboxEmpty, match=r"no message is waiting$"):
            await server.data_get(0)
        for call in (server.data_get, server.message_get):
            with pytest.raises(ValueError, match="timeout=nan"):
                await call(math.nan)


@scenario
async def a_stage_is_shown_by_its_name(world: World) -> None:
    async with world.server("P2P") as server, world.client("P2P", server.address) as client:
        stage = await (await client.send(b"x"))
        assert f"{stage}" == str(stage) == "RECEIVED"
        assert f"{stage:>10}" == "  RECEIVED"
        assert (f"{stage:d}", f"{Stage.FAILED:d}", int(stage)) == ("2", "-1", 2)
        await until(lambda: server.data_count() == 1)


@scenario
async def start_after_the_end_begins_a_new_conversation(world: World) -> None:
    """At once, also while the END is under way; what was sent before it arrives."""
    async with world.server("P2P", max_peers=2) as server, world.client("P2P", server.address) as client:
        for number in range(3):
            receipt = await client.send(b"%d" % number)
            await (client.end() if number != 1 else server.end())
            if number == 1:
                with pytest.raises(EndOfData):
                    await client.data_get(15)
            await client.start()
            assert not receipt.failed
            assert await server.data_get(15) == b"%d" % number
        await client.send(b"more")
        assert await server.data_get(15) == b"more"
        await until(lambda: len(server.peers()) == 1)
        await server.send(b"back")
        assert await client.data_get(15) == b"back"


@scenario
async def accept_may_say_later(world: World) -> None:
    """The client tries again by itself; a client without ``reconnect`` reads the code."""
    verdicts: list[Any] = ["later"] * 4 + [True, "later"]
    async with (
        world.server("P2P", accept=lambda info: verdicts.pop(0), max_peers=2) as server,
        world.client("P2P", server.address, reconnect=QUICK),
    ):
        assert verdicts == ["later"]
        with pytest.raises(Refused, match="for now") as caught:
            await world.client("P2P", server.address, reconnect=None).start()
        assert caught.value.code == "later"


@scenario
async def accept_may_say_nothing_else(world: World) -> None:
    """Another text would admit the peer, as it is true: it is an error, which rejects it."""
    async with world.server("P2P", accept=lambda info: "Later") as server:
        with pytest.raises(Refused, match="rejected") as caught:
            await world.client("P2P", server.address).start()
        assert caught.value.code == "denied"
        assert server.statistics().errors == 1


@scenario
async def a_client_survives_the_restart_of_its_server(world: World) -> None:
    """With ``end=False``: everything sent is confirmed first, and nothing is in doubt."""
    ear = Ear()
    async with (
        world.server("P2P") as server,
        world.client("P2P", server.address, reconnect=QUICK) as client,
    ):
        client.add_callback(ear, EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.ERROR)
        for number in range(3):
            await server.wait_connected(timeout=15)
            receipts = [await server.send(b"%d" % number) for _ in range(100)]
            assert await server.stop(15, end=False)
            assert all(receipt.stage >= Stage.RECEIVED for receipt in receipts)
            await ear.wait(EventKind.DISCONNECTED, number + 1)
            await client.send(b"while it was away")
            assert [await client.data_get(15) for _ in receipts] == [b"%d" % number] * 100
            await server.start()
            assert await server.data_get(15) == b"while it was away"
            await ear.wait(EventKind.CONNECTED, number + 1)
        await server.stop(15)
        with pytest.raises(EndOfData):
            await client.data_get(15)
    lost = [event.error for event in ear.events if event.kind is EventKind.ERROR]
    assert all(isinstance(error, SessionLost) and not error.in_doubt for error in lost), lost


@scenario
async def a_conversation_that_is_ending_ends_also_in_such_a_stop(world: World) -> None:
    async with world.server("P2P") as server, world.client("P2P", server.address) as client:
        await server.wait_connected(timeout=15)
        await server.send(b"last")
        await server.end()
        assert await server.stop(15, end=False)
        assert await client.data_get(15) == b"last"
        with pytest.raises(EndOfData):
            await client.data_get(15)


@scenario
async def several_addresses_are_tried_in_order(world: World) -> None:
    """Then again from the first: a client finds the one server that is there, or has a slot."""
    if world.address.startswith("memory"):
        with pytest.raises(AddressError, match="several"):
            world.client("P2P", [world.address, "memory://other"])
        return
    nowhere = world.address + ".nowhere"
    if world.is_tcp:
        async with world.server("P2P") as gone:
            nowhere = gone.address
    async with world.server("P2P") as second:
        for addresses in ([nowhere, second.address], [second.address, nowhere]):
            async with world.client("P2P", addresses, reconnect=QUICK) as client:
                assert client.peers()[0].address == second.address
                await client.send(b"x")
                assert await second.data_get(15) == b"x"
            await until(lambda: not second.peers())
        with pytest.raises(ConnectFailed, match=f"{nowhere} or {nowhere}"):
            await world.client("P2P", [nowhere, nowhere], reconnect=None).start()


@scenario
async def a_full_server_and_a_lost_one_lead_to_the_next(world: World) -> None:
    if not world.is_tcp:
        return  # Two servers need two addresses.
    ear = Ear()
    async with (
        world.server("P2P", name="one") as one,
        world.server("P2P", name="two") as two,
        world.client("P2P", one.address) as guest,
        world.client("P2P", [one.address, two.address], reconnect=QUICK) as client,
    ):
        client.add_callback(ear, EventKind.CONNECTED)
        assert client.peers()[0].name == "two"  # as the first is busy
        await guest.stop()
        await until(lambda: not one.peers())
        await two.stop(15, end=False)
        await ear.wait(EventKind.CONNECTED)
        assert client.peers()[0].address == one.address
        await one.send(b"hello")
        assert await client.data_get(15) == b"hello"


@scenario
async def a_function_may_connect(world: World) -> None:
    """It is called for each attempt; what it raises, and what is no socket, is a failed attempt."""
    if world.address.startswith("memory"):
        with pytest.raises(ValueError, match="connect="):
            world.client("P2P", world.address, connect=lambda: None)
        return
    results: list[Any] = [OSError("the proxy says no"), KeyError("odd"), 7, True]
    threads = []

    def connect() -> Any:
        threads.append(threading.current_thread())
        result = results[0] if len(results) == 1 else results.pop(0)
        if isinstance(result, Exception):
            raise result
        if result == 7:
            return 7
        if server.address.startswith("unix"):
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(server.address.removeprefix("unix://"))
            except OSError:
                sock.close()
                raise
            return sock
        host, _, port = server.address.partition("://")[2].rpartition(":")
        return socket.create_connection((host, int(port)))

    async with world.server("P2P") as server:
        address = server.address
        for text in ("the proxy says no", "KeyError: 'odd'", "connect= returned 7"):
            with pytest.raises(ConnectFailed, match=text):
                await world.client("P2P", address, connect=connect, reconnect=None).start()
        async with world.client("P2P", address, connect=connect, reconnect=QUICK) as client:
            await client.send(b"x")
            assert await server.data_get(15) == b"x"
            assert await server.stop(15, end=False)
            await client.send(b"y")
            await server.start()
            assert await server.data_get(15) == b"y"
    assert threading.current_thread() not in threads
    with pytest.raises(ValueError, match="connect="):
        world.client("P2P", [address, address], connect=connect)
