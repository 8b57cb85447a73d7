"""`FakeBroker`: programs over ``nats://`` without a nats-server; the scenarios of a real one play over it."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("nats")

from linkbox import (
    AuthenticationFailed,
    Backoff,
    ClientAR,
    ClientP2M,
    ConnectFailed,
    Json,
    Nats,
    PeerLost,
    ServerAR,
    ServerP2M,
    StateError,
)
from linkbox.nats.streams import SourceExchange
from linkbox.testing import FakeBroker
from linkbox.testing._subjects import matches
from tests.conformance.fronts import FRONTS, play, until
from tests.conformance.scenarios import SCENARIOS
from tests.nats import test_ar, test_p2m
from tests.nats.test_conformance import NOT_HERE
from tests.nats.world import NatsWorld, world_of

NOW = Backoff(initial=0.01, maximum=0.05)
_names = itertools.count(1)


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeBroker]:
    with FakeBroker() as broker:
        yield broker


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    "scenario",
    [each for each in SCENARIOS if each.__name__ not in NOT_HERE],
    ids=lambda function: function.__name__,
)
def test_scenario(scenario: Any, front: str, shared: FakeBroker) -> None:
    play(scenario, world_of(front, shared.address(f"scenario-{next(_names)}")))


@pytest.mark.parametrize(
    "test",
    [
        test_ar.test_several_servers_share_the_requests_and_each_is_handled_once,
        test_ar.test_wrong_patterns_and_formats_are_refused_from_everywhere,
        test_ar.test_any_client_of_the_broker_can_ask,
        test_p2m.test_several_servers_share_a_name_and_each_message_comes_once,
        test_p2m.test_what_a_stopping_server_has_not_given_away_goes_to_the_next_in_order,
        test_p2m.test_a_server_takes_no_more_than_its_mailbox_holds,
        test_p2m.test_a_full_stream_is_a_full_mailbox,
    ],
    ids=lambda function: function.__name__,
)
def test_as_over_a_real_broker(test: Any, front: str, shared: FakeBroker) -> None:
    test(world_of(front, shared.address(f"as-{next(_names)}")))


def test_p2m_loses_nothing_when_it_is_killed_and_marks_what_comes_again(front: str) -> None:
    async def scenario(world: NatsWorld) -> None:
        client = world.client("P2M", world.address, Json, blocking=False, linger=30.0, reconnect=NOW)
        async with world.server("P2M", Json) as server, client:
            for number in range(10):
                await client.send(number)
            await client.flush(20)
            assert [await server.data_get(20) for _ in range(5)] == list(range(5))
            await asyncio.to_thread(broker.kill)
            for number in range(10, 15):
                await client.send(number)
            await asyncio.to_thread(broker.start)
            found: dict[int, bool] = {}
            while set(found) != set(range(5, 15)):
                message = await server.message_get(20)
                assert message.redelivered or message.data not in found
                found[message.data] = message.redelivered
            await client.flush(20)

    with FakeBroker() as broker:
        play(scenario, world_of(front, broker.address("plant")))


def subscribed_when_it_gives_back(front: str) -> list[bool]:
    """A server stops: for each message that it gives back, would the broker give it to this server again?"""
    found = []

    async def scenario(world: NatsWorld) -> None:
        async with world.client("P2M", world.address, Json) as client:
            server = await world.server("P2M", Json).start()
            for number in range(5):
                await client.send(number)
            await until(lambda: server.data_count() == 5)
            await server.stop()

    with FakeBroker() as broker:
        router = broker._router
        real = router.publish

        def publish(sender: Any, to: str, reply_to: str, headers: Any, body: bytes) -> None:
            if to.startswith("$JS.ACK.") and body == b"-NAK":
                [stream] = [each for each in router.jetstream.streams.values() if each.is_queue]
                fetches = stream.consumers["servers"].fetches
                found.append(any(router.receives(each.reply_to) for each in fetches))
            real(sender, to, reply_to, headers, body)

        router.publish = publish  # type: ignore[method-assign]
        play(scenario, world_of(front, broker.address("plant")))
    return found


def test_a_stopping_server_unsubscribes_before_it_gives_back(front: str) -> None:
    assert subscribed_when_it_gives_back(front) == [False] * 5


@pytest.mark.patches
def test_if_it_gives_back_first_it_would_get_it_again(front: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_serving(self: SourceExchange) -> None:
        self.is_serving, client = False, self.client
        assert client is not None
        self._given_back = []
        client.finish_first(self._give_back(client))

    monkeypatch.setattr(SourceExchange, "stop_serving", stop_serving)
    assert subscribed_when_it_gives_back(front)[0]


def test_a_cut_ends_a_request_and_the_next_one_works(front: str, shared: FakeBroker) -> None:
    async def scenario(world: NatsWorld) -> None:
        async with world.server("AR", Json) as server:
            client = world.client("AR", world.address, Json)
            asked = asyncio.create_task(client.ask(1, 20))
            await server.data_get(20)
            assert await asyncio.to_thread(shared.cut) >= 2
            with pytest.raises(PeerLost):
                await asked
            asked = asyncio.create_task(client.ask(2, 20))
            (await server.data_get(20)).answer(3)
            assert await asked == 3
            await client.stop()

    play(scenario, world_of(front, shared.address(f"cut-{front}")))


def test_what_nobody_has_taken_can_be_counted() -> None:
    with FakeBroker() as broker:
        assert broker.waiting("plant") == 0
        with ClientP2M(broker.address("plant"), Json) as client:
            client.send(1)
            client.send(2)
        assert broker.waiting("plant") == 2
        with ServerP2M(broker.address("plant"), Json) as server:
            assert [server.data_get(10), server.data_get(10)] == [1, 2]
        assert (broker.waiting("plant"), broker.connections) == (0, 0)


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({"token": "abc"}, Nats(token="abc")),
        ({"user": "joe", "password": "abc"}, Nats(user="joe", password="abc")),
    ],
)
def test_credentials(settings: dict[str, str], right: Nats) -> None:
    with FakeBroker(**settings) as broker:
        url = broker.address("x")
        with ServerAR(url, handler=lambda request: request.data, broker=right):
            with ClientAR(url, broker=right) as client:
                assert client.ask(b"x", 10) == b"x"
            for wrong in (None, Nats(token="other"), Nats(user="joe", password="other")):
                with pytest.raises(AuthenticationFailed):
                    ClientAR(url, broker=wrong, reconnect=None).ask(b"x", 10)


def test_a_broker_that_is_killed_cannot_be_reached() -> None:
    with FakeBroker() as broker:
        broker.kill()
        with pytest.raises(ConnectFailed):
            ClientAR(broker.address("x"), reconnect=None).ask(b"x", 10)
        broker.kill()
        broker.start()
        with pytest.raises(ConnectFailed, match="no server serves"):
            ClientAR(broker.address("x"), reconnect=None).ask(b"x", 10)


def test_it_runs_in_a_with_block_only() -> None:
    broker = FakeBroker()
    for call in (broker.cut, broker.kill, broker.start, lambda: broker.waiting("x")):
        with pytest.raises(StateError):
            call()
    with broker, pytest.raises(StateError), broker:
        pass
    with broker:
        assert broker.cut() == 0


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        b"PING\r\n",
        b"CONNECT {}\r\nPUB x\r\n",
        b"CONNECT {}\r\nPUB x 9999999999\r\n",
        b"CONNECT {\r\n",
    ],
)
def test_who_speaks_no_nats_is_sent_away(said: bytes, shared: FakeBroker) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), 10) as sock, sock.makefile("rb") as file:
        assert file.readline().startswith(b"INFO ")
        sock.sendall(said)
        assert file.read().startswith(b"-ERR '")


def test_wildcards() -> None:
    assert all(matches(each, "a.b.c") for each in ("a.b.c", "a.*.c", "a.>", ">", "*.*.*"))
    assert not any(matches(each, "a.b.c") for each in ("a.b", "a.b.c.d", "a.b.c.>", "*.*", "b.>"))
