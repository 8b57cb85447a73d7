"""The network in memory, with real endpoints on it: what it promises, its faults, and the manual clock."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from linkbox import (
    AddressError,
    Backoff,
    ClientAR,
    ClientP2M,
    ClientP2P,
    ConnectFailed,
    DeadlineExceeded,
    EventKind,
    Json,
    Limits,
    Lines,
    ListenFailed,
    MailboxEmpty,
    PeerLost,
    ServerAR,
    ServerP2M,
    ServerP2P,
    Stage,
    aio,
)
from linkbox.testing import ManualClock, MemoryNetwork
from tests.threaded.helpers import Ear, Threads, wait_until

S = "memory://server"


# --- addresses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["memory://", "memory:server", "memory://a b", "memory://a/b", "memory://a:1"]
)
def test_a_wrong_address_says_so(address: str) -> None:
    with pytest.raises(AddressError, match=r"memory://|missing|scheme"):
        ServerP2P(address)


def test_an_address_stays_what_it_is() -> None:
    with MemoryNetwork():
        for _ in range(2):
            with ServerP2P(S) as server, ClientP2P(server.address) as client:
                assert server.address == client.address == S
                assert server.peers()[0].address == "memory:"
                assert client.peers()[0].address == S


def test_it_takes_no_ssl() -> None:
    import ssl

    with pytest.raises(AddressError, match="never leaves"):
        ClientP2P(S, ssl=ssl.create_default_context())


def test_without_a_network_it_says_what_is_missing() -> None:
    with pytest.raises(ListenFailed, match="MemoryNetwork"):
        ServerP2P(S).start()
    with pytest.raises(ConnectFailed, match="MemoryNetwork"):
        ClientP2P(S, reconnect=None).start()


def test_a_name_is_taken_once_and_free_again_after_stop() -> None:
    with MemoryNetwork(), ServerP2P(S) as first:
        with pytest.raises(ListenFailed, match="in use"):
            ServerP2P(S).start()
        first.stop()
        with ServerP2P(S):
            pass


def test_nobody_listens() -> None:
    with MemoryNetwork():
        with pytest.raises(ConnectFailed, match="nobody listens"):
            ClientP2P(S, reconnect=None).start()
        with ServerP2P(S), pytest.raises(ConnectFailed, match="nobody listens"):
            ClientP2P("memory://other", reconnect=None).start()


def test_each_network_is_a_world_of_its_own() -> None:
    with MemoryNetwork(), ServerP2P(S) as outer:
        with MemoryNetwork(), ServerP2P(S) as inner, ClientP2P(S) as client:
            client.send(b"here")
            assert inner.data_get(5) == b"here"
        assert outer.peers() == ()


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"chunk": 0}, {"chunk": 0.5}])
def test_wrong_numbers(wrong: Any) -> None:
    with pytest.raises(ValueError, match="from 1"):
        MemoryNetwork(**wrong)


# --- carrying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 64 * 1024])
def test_bytes_arrive_in_pieces_of_any_size(chunk: int) -> None:
    body = bytes(range(256)) * 20
    with MemoryNetwork(chunk=chunk), ServerP2P(S) as server, ClientP2P(S) as client:
        client.send(body)
        server.send(body[::-1])
        assert server.data_get(5) == body
        assert client.data_get(5) == body[::-1]


def test_a_small_buffer_makes_the_writer_wait() -> None:
    body = bytes(range(256)) * 4000
    with MemoryNetwork(capacity=100), ServerP2P(S) as server, ClientP2P(S) as client:
        sent = [client.send(body), client.send(body)]
        assert server.data_get(10) == body
        assert server.data_get(10) == body
        assert [receipt.wait(Stage.TAKEN, 10) for receipt in sent] == [Stage.TAKEN] * 2


def test_threaded_and_asyncio_endpoints_talk_to_each_other() -> None:
    async def main() -> None:
        async with aio.ServerAR("memory://aio", Json, handler=lambda request: request.data + 1):
            with ClientAR("memory://aio", Json) as threaded:
                assert await asyncio.to_thread(threaded.ask, 1, 10) == 2
            async with aio.ClientAR(S, Json, keep_alive=True) as client:
                assert await client.ask(1, 10) == -1

    with MemoryNetwork() as network:
        with ServerAR(S, Json, handler=lambda request: -request.data):
            asyncio.run(main())
        assert network.connections == 0


def test_many_at_once() -> None:
    with MemoryNetwork(), ServerP2M(S, Json) as server, Threads() as threads:
        for number in range(20):
            threads.start(ClientP2M(S, Json).send_many, range(number * 100, number * 100 + 100))
        found = sorted(server.data_get(10) for _ in range(2000))
        assert found == list(range(2000))


def test_a_plain_framing_ends_with_fin() -> None:
    with (
        MemoryNetwork(),
        ServerP2P(S, framing=Lines, half_close=0.1) as server,
        ClientP2P(S, framing=Lines) as client,
    ):
        client.send(b"a line")
        assert server.data_get(5) == b"a line"
        server.send(b"what is sent before the end arrives")
        client.end()
        assert list(client) == [b"what is sent before the end arrives"]


def test_a_full_mailbox_of_a_plain_framing_stops_reading() -> None:
    limits = Limits(mailbox_messages=10)
    with (
        MemoryNetwork(capacity=1000),
        ServerP2P(S, framing=Lines, limits=limits) as server,
        ClientP2P(S, framing=Lines) as client,
        Threads() as threads,
    ):
        threads.start(lambda: [client.send(b"%d" % number) for number in range(5000)])
        wait_until(lambda: server.data_count() >= 10, "nothing came")
        assert [server.data_get(10) for _ in range(5000)] == [b"%d" % number for number in range(5000)]


# --- faults -----------------------------------------------------------------------------------------


def test_after_a_cut_nothing_is_lost() -> None:
    ear = Ear()
    with MemoryNetwork() as network, ServerP2P(S, Json) as server:
        client = ClientP2P(S, Json, reconnect=Backoff(initial=0.01))
        client.add_callback(ear, EventKind.RESUMED)
        with client:
            for number in range(500):
                client.send(number)
                if number % 100 == 50:
                    assert network.cut() <= 1
            assert [server.data_get(10) for _ in range(500)] == list(range(500))
            ear.wait(kind=EventKind.RESUMED)


def test_held_bytes_arrive_when_they_are_released() -> None:
    with MemoryNetwork() as network, ServerP2P(S, Json) as server, ClientP2P(S, Json) as client:
        network.hold()
        receipt = client.send("late")
        with pytest.raises(MailboxEmpty):
            server.data_get(0.02)
        with pytest.raises(DeadlineExceeded):
            receipt.wait(timeout=0.02)
        network.release()
        assert server.data_get(5) == "late"


def test_connections_can_be_refused() -> None:
    with MemoryNetwork() as network, ServerP2P(S) as server, ClientP2P(S) as client:
        network.refuse()
        with pytest.raises(ConnectFailed, match="refuses"):
            ClientAR(S, reconnect=None).ask(b"", 5)
        client.send(b"open ones stay")
        assert server.data_get(5) == b"open ones stay"
        network.refuse(False)
        assert network.connections == 1


# --- the manual clock -------------------------------------------------------------------------------


def test_while_the_clock_stands_still_everything_moves_but_time() -> None:
    with MemoryNetwork(clock=ManualClock()), ServerP2P(S, Json) as server, ClientP2P(S, Json) as client:
        receipts = [client.send(number) for number in range(100)]
        assert [server.data_get() for _ in range(100)] == list(range(100))
        assert receipts[-1].wait(Stage.TAKEN) is Stage.TAKEN
        assert client.stop()


def test_hours_pass_in_a_moment_and_heartbeats_keep_the_link() -> None:
    clock = ManualClock()
    with MemoryNetwork(clock=clock) as network, ServerP2P(S) as server, ClientP2P(S) as client:
        clock.advance(4 * 3600)
        assert clock.now == 100 + 4 * 3600
        assert network.connections == 1
        assert server.statistics().reconnects == client.statistics().reconnects == 0
        client.send(b"still there")
        assert server.data_get() == b"still there"


def test_a_silent_peer_is_lost_at_the_second_that_the_limits_say() -> None:
    clock = ManualClock()
    limits = Limits(heartbeat=10, peer_timeout=20)
    with (
        MemoryNetwork(clock=clock) as network,
        ServerP2P(S, limits=limits) as server,
        ClientP2P(S, limits=limits, reconnect=None) as client,
    ):
        network.hold()
        clock.advance(29)
        assert client.peers() and server.peers()
        clock.advance(2)
        with pytest.raises(PeerLost):
            client.data_get()
        assert not client.peers() and not server.peers()
        network.release()


def test_a_timeout_ends_when_the_clock_says_so() -> None:
    clock = ManualClock()
    with MemoryNetwork(clock=clock), ServerP2P(S) as server, Threads() as threads:
        failures: list[Exception] = []
        begun = threading.Barrier(3)

        def take() -> None:
            begun.wait(10)
            try:
                server.data_get(timeout=60)
            except MailboxEmpty as error:
                failures.append(error)

        for _ in range(2):  # one leads, one follows
            threads.start(take)
        begun.wait(10)
        wait_until(lambda: len(server._operations.mailbox.changed.waiters) == 2, "they do not wait")
        clock.advance(59.9)
        assert failures == []
        clock.advance(0.2)
        wait_until(lambda: len(failures) == 2, "they still wait")


def test_a_client_comes_back_when_its_backoff_is_over() -> None:
    clock = ManualClock()
    with (
        MemoryNetwork(clock=clock) as network,
        ServerP2P(S, Json) as server,
        ClientP2P(S, Json, reconnect=Backoff(initial=60, maximum=60, jitter=0)) as client,
    ):
        network.refuse()
        network.cut()
        wait_until(lambda: not server.peers() and not client.peers(), "not cut")
        client.send("queued")
        clock.advance(30)
        network.refuse(False)
        clock.advance(300)
        assert server.data_get() == "queued"


def test_an_ask_is_late_by_the_clock() -> None:
    clock = ManualClock()
    with (
        MemoryNetwork(clock=clock),
        ServerAR(S, Json) as server,
        ClientAR(S, Json, keep_alive=True) as client,
        Threads() as threads,
    ):
        failures: list[Exception] = []

        def ask() -> None:
            try:
                client.ask("?", timeout=30)
            except DeadlineExceeded as error:
                failures.append(error)

        threads.start(ask)
        request = server.data_get()
        clock.advance(31)
        wait_until(lambda: failures, "no deadline")
        wait_until(request.cancelled, "not cancelled")


def test_the_clock_moves_asyncio_endpoints_too() -> None:
    clock = ManualClock()
    limits = Limits(heartbeat=10, peer_timeout=20)

    async def main(network: MemoryNetwork) -> None:
        async with (
            aio.ServerP2P(S, Json, limits=limits) as server,
            aio.ClientP2P(S, Json, limits=limits, reconnect=None) as client,
        ):
            with pytest.raises(RuntimeError, match="to_thread"):
                clock.advance(1)
            await asyncio.to_thread(clock.advance, 3600)
            await client.send("still there")
            assert await server.data_get() == "still there"
            waiting = asyncio.create_task(server.data_get(timeout=5))
            await asyncio.sleep(0)
            await asyncio.to_thread(clock.advance, 5)
            with pytest.raises(MailboxEmpty):
                await waiting
            network.hold()
            await asyncio.to_thread(clock.advance, 31)
            with pytest.raises(PeerLost):
                await client.data_get()
            network.release()

    with MemoryNetwork(clock=clock) as network:
        before = time.monotonic()
        asyncio.run(main(network))
        assert time.monotonic() - before < 3600


def test_a_store_goes_by_the_clock(tmp_path: Any) -> None:
    clock = ManualClock()
    with (
        MemoryNetwork(clock=clock),
        ServerP2P(S, Json, store=tmp_path / "in") as server,
        ClientP2P(S, Json, store=tmp_path / "out") as client,
    ):
        receipt = client.send("kept")
        assert server.data_get() == "kept"
        assert receipt.wait(Stage.RECEIVED) >= Stage.RECEIVED
        clock.advance(100)
        assert receipt.wait(Stage.TAKEN) is Stage.TAKEN
