"""What every pair of front ends must do. Each scenario is a coroutine function that takes the `World`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import pytest

from linkbox import (
    AddressError,
    AnswerError,
    AuthenticationFailed,
    Backoff,
    Bytes,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    EndOfData,
    EventKind,
    FormatError,
    Incomplete,
    Json,
    Limits,
    Lines,
    Linked,
    ListenFailed,
    MailboxEmpty,
    MailboxFull,
    PeerLost,
    Raw,
    Refused,
    Stage,
    StateError,
    TooLarge,
)
from tests.conformance.fronts import Ear, World, until

NOW = Backoff(initial=0.01, maximum=0.05)
SCENARIOS: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


# --- P2P --------------------------------------------------------------------------------------------


@scenario
async def messages_both_ways_and_the_end(world: World) -> None:
    async with world.server("P2P", Json) as server:
        client = await world.client("P2P", server.address, Json).start()
        receipts = [await client.send(number) for number in range(100)]
        assert [await server.data_get(5) for _ in range(100)] == list(range(100))
        assert await receipts[-1].wait(Stage.TAKEN, 5) is Stage.TAKEN
        [peer] = server.peers()
        for number in range(50):
            await server.send({"n": number}, to=peer)
        await server.end()
        assert [item async for item in client] == [{"n": number} for number in range(50)]
        with pytest.raises(EndOfData):
            await client.data_get(5)
        assert await client.stop() is True
        await until(lambda: not server.peers())


@scenario
async def bytes_in_odd_pieces(world: World) -> None:
    body = bytes(range(256)) * 2000
    async with world.server("P2P") as server, world.client("P2P", server.address) as client:
        for at in range(0, len(body), 7001):
            await client.send(body[at : at + 7001])
        found = b""
        while len(found) < len(body):
            found += await server.data_get_count(min(3333, len(body) - len(found)), 5)
        assert found == body
        assert server.data_empty() and server.data_count() == 0
        with pytest.raises(MailboxEmpty):
            await server.data_get_count(1, 0.01)
        for count in (0, -1):
            with pytest.raises(ValueError, match="count"):
                await server.data_get_count(count)


@scenario
async def a_large_message_goes_in_pieces_and_a_larger_one_is_refused(world: World) -> None:
    limits = Limits(message=3_000_000)
    async with (
        world.server("P2P", limits=limits) as server,
        world.client("P2P", server.address) as client,
    ):
        body = b"x" * 3_000_000
        await client.send(body)
        assert await server.data_get(10) == body
        with pytest.raises(TooLarge):
            await client.send(body + b"y")


@scenario
async def callbacks_and_pollers_side_by_side(world: World) -> None:
    ear = Ear()
    async with world.server("P2P", Json) as server:
        server.add_callback(ear)
        async with world.client("P2P", server.address, Json) as client:
            taker = asyncio.create_task(_take(server, 200))
            for number in range(200):
                await client.send(number)
            assert await taker == list(range(200))
            await until(lambda: len(ear.events) == 200)
    assert set(ear.kinds()) == {EventKind.DATA}


async def _send_all(endpoint: Any, values: Iterable[Any], **how: Any) -> None:
    for value in values:
        await endpoint.send(value, **how)


async def _take(endpoint: Any, count: int) -> list[Any]:
    return [await endpoint.data_get(10) for _ in range(count)]


@scenario
async def a_callback_that_raises_does_not_stop_the_stream(world: World) -> None:
    heard: list[Any] = []

    def bell(event: Any) -> None:
        heard.append(event)
        if len(heard) == 1:
            raise RuntimeError("out of tune")

    async with world.server("P2P", Json) as server, world.client("P2P", server.address, Json) as client:
        server.add_callback(bell)
        for number in range(3):
            await client.send(number)
        assert await _take(server, 3) == [0, 1, 2]
        await until(lambda: len(heard) == 3)
        assert server.statistics().callback_errors == 1


@scenario
async def what_is_waiting_rings_when_the_first_bell_is_hung_up(world: World) -> None:
    ear = Ear()
    async with world.server("P2P", Json) as server, world.client("P2P", server.address, Json) as client:
        for number in range(5):
            await (await client.send(number)).wait(timeout=5)
        server.add_callback(ear)
        await ear.wait(EventKind.DATA, 5)
        assert server.data_get_all() == [0, 1, 2, 3, 4]


@scenario
async def one_place_means_one_client(world: World) -> None:
    async with world.server("P2P") as server, world.client("P2P", server.address):
        with pytest.raises(Refused) as caught:
            await world.client("P2P", server.address, reconnect=None).start()
        assert caught.value.code == "busy"


@scenario
async def several_peers_have_views_of_their_own(world: World) -> None:
    async with world.server("P2P", Json, max_peers=3) as server:
        clients = [await world.client("P2P", server.address, Json, name=f"c{n}").start() for n in range(3)]
        await server.wait_connected(3, 5)
        with pytest.raises(StateError, match="broadcast"):
            await server.send("to whom?")
        receipts = await server.broadcast("all")
        for receipt in receipts.values():
            assert await receipt.wait(timeout=5) >= Stage.RECEIVED
        peers = {peer.name: peer for peer in server.peers()}
        for client in clients:
            assert await client.data_get(5) == "all"
        await clients[1].send("mine")
        view = server.link(peers["c1"])
        assert await view.data_get(5) == "mine"
        await view.send("yours")
        assert await clients[1].data_get(5) == "yours"
        await view.end()
        with pytest.raises(EndOfData):
            await clients[1].data_get(5)
        for client in clients:
            await client.stop()


@scenario
async def a_full_window_waits_up_to_the_timeout(world: World) -> None:
    limits = Limits(window_messages=5, mailbox_messages=5)
    async with (
        world.server("P2P", Json, limits=limits) as server,
        world.client("P2P", server.address, Json, limits=limits) as client,
    ):
        with pytest.raises(MailboxFull):
            await _send_all(client, range(50), timeout=0.05)
        first = await server.data_get_count(5, 5)
        assert first == [0, 1, 2, 3, 4]
        await client.send("there is room again", timeout=5)
        while await server.data_get(5) != "there is room again":
            pass


@scenario
async def overflow_drops_what_it_says_and_tells(world: World) -> None:
    ear = Ear()
    limits = Limits(mailbox_messages=3)
    async with world.server("P2P", Json, limits=limits, overflow="drop_oldest") as server:
        server.add_callback(ear, EventKind.OVERFLOW)
        async with world.client("P2P", server.address, Json) as client:
            receipts = [await client.send(number) for number in range(10)]
            assert await receipts[-1].wait(timeout=5) >= Stage.RECEIVED
            await ear.wait(EventKind.OVERFLOW, 7)
            assert server.data_get_all() == [7, 8, 9]
            assert server.statistics().dropped == 7


@scenario
async def too_few_before_the_end_is_incomplete(world: World) -> None:
    async with world.server("P2P") as server:
        async with world.client("P2P", server.address) as client:
            await client.send(b"abc")
            await until(lambda: server.data_count() == 3)
            view = server.link(server.peers()[0])
        with pytest.raises(Incomplete) as caught:
            await view.data_get_count(5, 5)
        assert caught.value.available == 3
        assert await view.data_get_count(3) == b"abc"
        with pytest.raises(EndOfData):
            await view.data_get_count(1, 5)


@scenario
async def a_message_that_cannot_be_decoded_fails_alone(world: World) -> None:
    class Looks(Json):
        """Says that it is JSON, and is not."""

        def encode(self, value: Any, /) -> bytes:
            return b"{bad" if value == "bad" else super().encode(value)

    ear = Ear()
    async with world.server("P2P", Json) as server:
        server.add_callback(ear, EventKind.ERROR)
        async with world.client("P2P", server.address, Looks()) as client:
            receipts = [await client.send(value) for value in ("good", "bad", "fine")]
            assert await _take(server, 2) == ["good", "fine"]
            with pytest.raises(DecodeError):
                await receipts[1].wait(timeout=5)
            assert isinstance((await ear.wait(EventKind.ERROR)).error, DecodeError)


# --- P2M --------------------------------------------------------------------------------------------


@scenario
async def many_push_into_one_mailbox(world: World) -> None:
    async def push(number: int) -> None:
        client = world.client("P2M", server.address, Json, name=f"c{number}")
        assert await client.send_many([number, each] for each in range(500)) == 500
        await client.stop()

    async with world.server("P2M", Json) as server:
        await asyncio.gather(*(push(number) for number in range(5)))
        found = [await server.message_get(5) for _ in range(2500)]
    for number in range(5):
        mine = [message.data[1] for message in found if message.peer.name == f"c{number}"]
        assert mine == list(range(500))


@scenario
async def a_blocking_send_returns_when_the_server_has_it(world: World) -> None:
    async with world.server("P2M", Json) as server:
        client = world.client("P2M", server.address, Json)
        for number in range(10):
            receipt = await client.send(number)
            assert receipt.stage >= Stage.RECEIVED
            assert server.data_count() == number + 1
        assert server.data_get_all() == list(range(10))
        await client.stop()


@scenario
async def a_non_blocking_send_fails_by_receipt_and_bell_only(world: World) -> None:
    ear = Ear()
    server = await world.server("P2M", Json).start()
    address = server.address
    await server.stop()
    client = world.client("P2M", address, Json, blocking=False, connect_timeout=0.3, reconnect=NOW)
    client.add_callback(ear, EventKind.ERROR)
    async with client:
        receipt = await client.send("nobody is there")
        with pytest.raises(ConnectFailed):
            await receipt.wait(timeout=10)
        await ear.wait(EventKind.ERROR)


@scenario
async def non_blocking_sends_can_be_flushed(world: World) -> None:
    async with world.server("P2M", Json) as server:
        async with world.client("P2M", server.address, Json, blocking=False) as client:
            for number in range(3000):
                await client.send(number)
            await client.flush(10)
            assert server.data_count() == 3000
        assert server.data_get_all() == list(range(3000))


@scenario
async def a_server_that_only_receives_has_nothing_to_send_with(world: World) -> None:
    server, client = world.server("P2M"), world.client("P2M", "tcp://127.0.0.1:1")
    assert not any(hasattr(server, name) for name in ("send", "broadcast", "end", "link"))
    assert not any(hasattr(client, name) for name in ("data_get", "data_empty", "message_get"))


# --- AR ---------------------------------------------------------------------------------------------


@scenario
async def asks_are_answered_by_a_handler(world: World) -> None:
    async with world.server("AR", Json, handler=world.handler(lambda request: request.data * 2)) as server:
        for keep_alive in (False, True):
            async with world.client("AR", server.address, Json, keep_alive=keep_alive) as client:
                assert await client.ask(21) == 42
                answers = await asyncio.gather(*(client.ask(number) for number in range(30)))
                assert answers == [2 * number for number in range(30)]


@scenario
async def a_connection_that_was_made_for_one_ask_closes_after_the_answer(world: World) -> None:
    echo = world.handler(lambda request: request.data)
    for framing in (Linked(), Lines()):
        server = world.server("AR", Json, framing=framing, handler=echo)
        async with server, world.client("AR", server.address, Json, framing=framing) as client:
            for number in range(3):
                assert await client.ask(number) == number
            await until(lambda endpoint=server: not endpoint.peers())  # type: ignore[misc]
            assert server.statistics().connections_total == 3


@scenario
async def a_handler_that_fails_tells_the_asker(world: World) -> None:
    def fail(request: Any) -> Any:
        raise LookupError(f"no {request.data}")

    server = world.server("AR", Json, handler=world.handler(fail))
    async with server, world.client("AR", server.address, Json) as client:
        with pytest.raises(AnswerError, match="no pump") as caught:
            await client.ask("pump")
        assert caught.value.type == "LookupError"


@scenario
async def asks_wait_in_the_mailbox_until_somebody_answers(world: World) -> None:
    async with (
        world.server("AR", Json) as server,
        world.client("AR", server.address, Json, keep_alive=True) as client,
    ):
        asked = [asyncio.create_task(client.ask(number, 10)) for number in range(3)]
        requests = [await server.data_get(5) for _ in range(3)]
        by_data = {request.data: request for request in requests}
        by_data[2].answer("two")
        by_data[1].fail("not today")
        by_data[0].answer("zero")
        assert await asked[0] == "zero"
        assert await asked[2] == "two"
        with pytest.raises(AnswerError, match="not today"):
            await asked[1]
        with pytest.raises(StateError):
            by_data[0].answer("again")


@scenario
async def the_answer_may_come_through_the_mailbox(world: World) -> None:
    ear = Ear()
    async with world.server("AR", Json, handler=world.handler(lambda request: -request.data)) as server:
        client = world.client("AR", server.address, Json, keep_alive=True)
        client.add_callback(ear)
        async with client:
            receipt = await client.send(5)
            message = await client.message_get(5)
            assert message.data == -5
            assert message.receipt is getattr(receipt, "real", receipt)
            await ear.wait(EventKind.DATA)


@scenario
async def an_ask_that_takes_too_long_is_cancelled_at_the_server(world: World) -> None:
    async with (
        world.server("AR", Json) as server,
        world.client("AR", server.address, Json, keep_alive=True) as client,
    ):
        first = asyncio.create_task(client.ask("first", timeout=10))
        (await server.data_get(5)).answer("connected: what follows is sent at once")
        await first
        with pytest.raises(DeadlineExceeded):
            await client.ask("slow", timeout=0.1)
        waiting = asyncio.create_task(client.ask("next", timeout=10))
        await until(lambda: server.data_count() == 2)  # the cancellation has arrived before the next request
        request = await server.data_get(5)
        assert request.data == "next", "the one that nobody waits for is skipped"
        request.answer("works")
        assert await waiting == "works"


@scenario
async def an_ask_of_several_messages(world: World) -> None:
    ear = Ear()
    async with world.server("AR", Bytes) as server:
        server.add_callback(ear, EventKind.PART, EventKind.DATA)
        async with world.client("AR", server.address) as client:
            asked = asyncio.create_task(client.ask_many(iter([b"a", b"b", b"c"]), 10))
            request = await server.data_get(5)
            assert (request.data, request.messages) == (b"abc", (b"a", b"b", b"c"))
            request.answer(b"whole")
            assert await asked == b"whole"
            await ear.wait(EventKind.DATA)
            assert ear.kinds().count(EventKind.PART) == 3


@scenario
async def a_server_that_stops_answers_nobody_and_nobody_hangs(world: World) -> None:
    server = await world.server("AR", Json).start()
    client = await world.client("AR", server.address, Json, keep_alive=True, reconnect=None).start()
    asked = asyncio.create_task(client.ask("?", 10))
    await server.data_get(5)
    await server.stop(0.2)
    with pytest.raises((PeerLost, AnswerError)):
        await asked
    await client.stop()


# --- drops ------------------------------------------------------------------------------------------


@scenario
async def nothing_is_lost_when_the_connection_breaks(world: World) -> None:
    ear = Ear()
    async with world.server("P2P", Json) as server:
        relay = await world.relay(server.address)
        client = world.client("P2P", relay.address, Json, reconnect=NOW)
        client.add_callback(ear, EventKind.RESUMED, EventKind.DISCONNECTED)
        async with client:
            taken = asyncio.create_task(_take(server, 1000))
            back = asyncio.create_task(_take(client, 1000))
            for number in range(1000):
                await client.send(number)
                await server.send(-number)
                if number % 200 == 100:
                    await relay.cut()
            assert await taken == list(range(1000))
            assert await back == [-number for number in range(1000)]
            await ear.wait(EventKind.RESUMED)
        await relay.close()


@scenario
async def who_waits_rides_through_a_restart_of_the_server(world: World) -> None:
    server = await world.server("P2M", Json).start()
    address = server.address
    client = world.client("P2M", address, Json, blocking=False, reconnect=NOW, linger=5.0)
    async with client:
        await (await client.send(1)).wait(timeout=5)
        assert await server.stop()
        waiting = asyncio.create_task((await client.send(2)).wait(timeout=15))
        await server.start()
        assert server.address == address
        assert await waiting >= Stage.RECEIVED
        assert server.data_get_all() == [1, 2]
    await server.stop()


@scenario
async def a_silent_peer_is_found_out(world: World) -> None:
    ear = Ear()
    limits = Limits(heartbeat=0.2, peer_timeout=0.3)
    async with world.server("P2P", Json, limits=limits) as server:
        server.add_callback(ear, EventKind.DISCONNECTED)
        relay = await world.relay(server.address)
        client = await world.client("P2P", relay.address, Json, reconnect=None, limits=limits).start()
        relay.hold()
        with pytest.raises(PeerLost):
            await client.data_get(10)
        await ear.wait(EventKind.DISCONNECTED)
        await client.stop(1)
        await relay.close()


@scenario
async def a_peer_that_does_not_read_disturbs_nobody(world: World) -> None:
    limits = Limits(mailbox_bytes=100_000, window_bytes=100_000)
    async with (
        world.server("P2P", max_peers=2, limits=limits) as server,
        world.client("P2P", server.address, name="slow", limits=limits) as slow,
        world.client("P2P", server.address, name="quick") as quick,
    ):
        await server.wait_connected(2, 5)
        peers = {peer.name: peer for peer in server.peers()}
        with pytest.raises(MailboxFull):
            await _send_all(server, [b"x" * 10_000] * 1000, to=peers["slow"], timeout=0.05)
        for number in range(100):
            await server.send(b"%d" % number, to=peers["quick"])
            assert await quick.data_get(5) == b"%d" % number
        slow.data_get_all()


# --- plain framings ---------------------------------------------------------------------------------


@scenario
async def lines_go_both_ways(world: World) -> None:
    async with (
        world.server("P2P", Json, framing=Lines()) as server,
        world.client("P2P", server.address, Json, framing=Lines()) as client,
    ):
        receipt = await client.send({"a": 1})
        assert await receipt.wait(timeout=5) is Stage.SENT
        assert await server.data_get(5) == {"a": 1}
        await server.send([2])
        assert await client.data_get(5) == [2]
        with pytest.raises(ValueError, match="plain framing"):
            await receipt.wait(Stage.TAKEN)


@scenario
async def plain_asks_and_raw_asks(world: World) -> None:
    for framing in (Lines(), Raw()):
        handler = world.handler(lambda request: request.data[::-1])
        server = world.server("AR", handler=handler, framing=framing)
        async with server, world.client("AR", server.address, framing=framing) as client:
            assert await client.ask(b"abc", 5) == b"cba"
            assert await client.ask(b"xyz", 5) == b"zyx"


# --- secrets ------------------------------------------------------------------------------------------


@scenario
async def who_knows_the_secret_talks_and_nobody_else(world: World) -> None:
    async with world.server("P2P", Json, secret=["new one", "old one"]) as server:
        async with world.client("P2P", server.address, Json, secret=b"old one") as client:
            await client.send("it is me")
            assert await server.data_get(5) == "it is me"
            await server.send("come in")
            assert await client.data_get(5) == "come in"
            assert server.peers()[0].identity is None
        for wrong in ("not that", None):
            with pytest.raises(AuthenticationFailed):
                await world.client("P2P", server.address, Json, secret=wrong).start()
        assert server.statistics().refused == 1, "who has none sees that it is asked for one, and leaves"
    async with world.server("P2P", Json) as server:
        with pytest.raises(AuthenticationFailed, match="did not ask"):
            await world.client("P2P", server.address, Json, secret="mine").start()


@scenario
async def secrets_of_one_name_each_tell_who_is_there(world: World) -> None:
    secrets = {"pump": b"pump's own", "valve": b"valve's own"}
    async with world.server("P2M", Json, secret=secrets.get) as server:
        for name, secret in secrets.items():
            await world.client("P2M", server.address, Json, name=name, secret=secret).send(name)
            message = await server.message_get(5)
            assert (message.data, message.peer.identity) == (name, name)
        for name, secret in (("pump", "valve's own"), ("stranger", "pump's own")):
            with pytest.raises(AuthenticationFailed):
                await world.client("P2M", server.address, Json, name=name, secret=secret).send(1)


@scenario
async def asks_with_a_secret_and_a_drop_in_between(world: World) -> None:
    handler = world.handler(lambda request: request.data + 1)
    async with world.server("AR", Json, handler=handler, secret="s") as server:
        assert await world.client("AR", server.address, Json, secret="s").ask(1, 5) == 2
        relay = await world.relay(server.address)
        client = world.client("AR", relay.address, Json, secret="s", keep_alive=True, reconnect=NOW)
        async with client:
            assert await client.ask(2, 5) == 3
            await relay.cut()
            assert await client.ask(3, 5) == 4
        await relay.close()


# --- errors and ends --------------------------------------------------------------------------------


@scenario
async def wrong_use_gives_the_named_errors(world: World) -> None:
    with pytest.raises(AddressError):
        world.client("P2P", "tcp://nowhere")
    client = world.client("P2P", "tcp://127.0.0.1:1", connect_timeout=0.2, reconnect=None)
    with pytest.raises(StateError):
        await client.send(b"before the start")
    with pytest.raises(StateError):
        await client.data_get()
    with pytest.raises(ConnectFailed):
        await client.start()
    async with world.server("P2P", Json) as server:
        with pytest.raises(StateError, match="no peer is connected"):
            await server.send(1)
        with pytest.raises(Refused) as caught:
            await world.client("P2P", server.address, Bytes).start()
        assert caught.value.code == "format"
        with pytest.raises(Refused) as caught:
            await world.client("AR", server.address, Json).ask(1, 5)
        assert caught.value.code == "pattern"
        async with world.client("P2P", server.address, Json) as client:
            with pytest.raises(FormatError):
                await client.send(object())
            await client.end()
            with pytest.raises(StateError):
                await client.send("after the end")
    with pytest.raises(EndOfData):
        await server.data_get()


@scenario
async def an_address_in_use_says_so(world: World) -> None:
    async with world.server("P2P") as server:
        if server.address.startswith("unix:"):
            pytest.skip("a unix address is taken over when nobody listens; tests/threaded tries it")
        second = World("threaded", "threaded", server.address, world.authority).server("P2P")
        with pytest.raises(ListenFailed, match="in use"):
            await second.start()


@scenario
async def stop_wakes_everyone_and_may_be_called_by_all(world: World) -> None:
    server = await world.server("P2P").start()
    client = await world.client("P2P", server.address).start()
    waiting = [asyncio.create_task(server.data_get()) for _ in range(5)]
    counting = asyncio.create_task(server.data_get_count(10))
    await asyncio.sleep(0.05)  # let them begin to wait: either way they must end
    assert all(await asyncio.gather(*(server.stop() for _ in range(4))))
    for task in (*waiting, counting):
        with pytest.raises(EndOfData):
            await task
    await client.stop()
    await server.start()
    assert await server.stop()


@scenario
async def stop_in_a_callback_returns(world: World) -> None:
    stopped: list[Any] = []
    server = world.server("P2P")

    def bell(event: Any) -> None:
        stopped.append(event.endpoint.stop())

    async def awaiting_bell(event: Any) -> None:
        stopped.append(await event.endpoint.stop())

    if asyncio.iscoroutinefunction(getattr(type(server), "stop", None)):
        bell = awaiting_bell  # type: ignore[assignment]

    server.add_callback(bell)
    async with server:
        client = await world.client("P2P", server.address).start()
        await client.send(b"stop it")
        await until(lambda: stopped)
        await client.stop()


@scenario
async def unacknowledged_takings_count_when_they_are_done(world: World) -> None:
    async with world.server("P2P", Json) as server, world.client("P2P", server.address, Json) as client:
        receipt = await client.send("work")
        message = await server.message_get(5, ack=False)
        with contextlib.suppress(DeadlineExceeded):
            assert await receipt.wait(Stage.TAKEN, 0.05) is not Stage.TAKEN
        message.ack()
        assert await receipt.wait(Stage.TAKEN, 5) is Stage.TAKEN


@scenario
async def statistics_count_on_both_sides(world: World) -> None:
    async with world.server("P2P") as server, world.client("P2P", server.address) as client:
        for _ in range(10):
            await (await client.send(b"12345")).wait(timeout=5)
        there, here = server.statistics(), client.statistics()
        assert (here.messages_sent, here.bytes_sent) == (10, 50)
        assert (there.messages_received, there.bytes_received, there.waiting) == (10, 50, 10)
        assert there.connections == here.connections == 1
