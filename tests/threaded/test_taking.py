"""data_get and its sisters: counts, timeouts, ends, several peers, held acknowledgements."""

from __future__ import annotations

import queue
import random
import threading
import time
from typing import Any

import pytest

from linkbox import (
    ClientAR,
    ClientP2P,
    EndOfData,
    Json,
    Limits,
    MailboxEmpty,
    ServerAR,
    ServerP2M,
    ServerP2P,
    Stage,
)
from tests.threaded.helpers import PROMPT, Threads, wait_until


def test_five_megabytes_in_odd_pieces_read_in_other_odd_sizes() -> None:
    chance = random.Random(1)
    data = chance.randbytes(5_000_000)
    got: list[bytes] = []

    def send() -> None:
        at = 0
        while at < len(data):
            size = chance.choice([1, 7, 1023, 1024, 4097, 65_537, 300_001])
            client.send(data[at : at + size])
            at += size
        client.send(b"")
        client.end()

    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client, Threads() as threads:
        threads.start(send)
        other, left = random.Random(2), len(data)
        while left:
            size = min(left, other.choice([1, 3, 999, 8192, 70_001, 1_234_567]))
            got.append(server.data_get_count(size, 20))
            assert type(got[-1]) is bytes and len(got[-1]) == size
            left -= size
    assert b"".join(got) == data


def test_counts_larger_than_the_mailbox_window() -> None:
    limits = Limits(mailbox_bytes=10_000, mailbox_messages=20)
    with (
        ServerP2P("tcp://127.0.0.1:0", limits=limits) as server,
        ClientP2P(server.address) as client,
        Threads() as threads,
    ):
        threads.start(lambda: [client.send(b"x" * 1000) for _ in range(500)])
        assert server.data_get_count(300_000, 10) == b"x" * 300_000
        assert server.data_get_count(200_000, 10) == b"x" * 200_000
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, limits=limits) as server,
        ClientP2P(server.address, Json) as client,
        Threads() as threads,
    ):
        threads.start(lambda: [client.send(number) for number in range(500)])
        assert server.data_get_count(300, 10) == list(range(300))
        assert server.data_get_count(200, 10) == list(range(300, 500))


def test_after_a_large_count_the_mailbox_is_bounded_again() -> None:
    limits = Limits(mailbox_messages=20, window_messages=5000)
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, limits=limits) as server,
        ClientP2P(server.address, Json, limits=limits) as client,
    ):
        for number in range(4000):
            client.send(number)
        assert server.data_get_count(1000, 10) == list(range(1000))
        pause = threading.Event()
        pause.wait(0.3)  # Nothing tells when no more will come.
        assert server.data_count() <= 1040
        for number in range(1000, 4000):
            assert server.data_get(5) == number
        pause.wait(0)


def test_timeouts() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        for call in (server.data_get, server.message_get, lambda timeout: server.data_get_count(1, timeout)):
            for timeout, least in ((0, 0.0), (0.1, 0.09), (-1, 0.0)):
                began = time.monotonic()
                with pytest.raises(MailboxEmpty):
                    call(timeout)
                assert least <= time.monotonic() - began < PROMPT
        with pytest.raises(queue.Empty):
            client.data_get(timeout=0)


def test_too_few_in_time_takes_nothing() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        client.send(b"abc").wait(timeout=5)
        client.send(b"de").wait(timeout=5)
        for timeout in (0, 0.05):
            with pytest.raises(MailboxEmpty):
                server.data_get_count(6, timeout)
        assert server.data_count() == 5
        assert server.data_get_count(4) == b"abcd"
        client.send(b"f").wait(timeout=5)
        assert server.data_get() == b"e"  # What is left of a message stays first.
        assert server.data_get_all() == [b"f"]


def test_wrong_counts() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ServerP2P("tcp://127.0.0.1:0", Json) as other:
        for endpoint in (server, other):
            for count in (0, -1, Limits().mailbox_total + 1):
                with pytest.raises(ValueError):
                    endpoint.data_get_count(count, 0)
            for count in (1.5, "3", None, True):
                with pytest.raises(TypeError):
                    endpoint.data_get_count(count, 0)


def test_counting() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        assert server.data_empty() and server.data_count() == 0 and server.data_get_all() == []
        client.send(b"12345")
        client.send(b"").wait(timeout=5)
        assert server.data_count() == 5 and not server.data_empty()
        assert server.data_get() == b"12345"
        assert server.data_count() == 0 and not server.data_empty()  # An empty message is a message.
        assert server.data_get() == b""
        assert server.data_empty()


def test_byte_counts_never_mix_peers() -> None:
    with ServerP2M("tcp://127.0.0.1:0") as server:
        pushers = {}
        with Threads() as threads:
            for letter in (b"a", b"b", b"c"):
                from linkbox import ClientP2M

                pushers[letter] = ClientP2M(server.address)
                threads.start(pushers[letter].send_many, [letter * 7] * 300)
            taken = {b"a": 0, b"b": 0, b"c": 0}
            while sum(taken.values()) < 3 * 2100:
                left = [2100 - count for count in taken.values()]
                size = 11 if max(left) >= 11 else max(left)
                piece = server.data_get_count(size, 10)
                assert len(set(piece)) == 1, piece
                taken[piece[:1]] += len(piece)
        assert set(taken.values()) == {2100}
        for pusher in pushers.values():
            pusher.stop()


def test_a_byte_count_is_served_from_the_peer_that_has_enough() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", max_peers=2) as server,
        ClientP2P(server.address) as first,
        ClientP2P(server.address) as second,
    ):
        first.send(b"aa").wait(timeout=5)
        second.send(b"bbbb").wait(timeout=5)
        with pytest.raises(MailboxEmpty):
            server.data_get_count(6, 0.05)
        assert server.data_get_count(3) == b"bbb"
        assert server.data_get_count(1) == b"a"
        assert server.data_get() == b"a"
        assert server.data_get() == b"b"


def test_views_on_peers_share_one_store() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, max_peers=2) as server,
        ClientP2P(server.address, Json, name="a") as a,
        ClientP2P(server.address, Json, name="b") as b,
    ):
        server.wait_connected(2, timeout=5)
        views = {peer.name: server.link(peer) for peer in server.peers()}
        for number in range(6):
            a.send(["a", number]).wait(timeout=5)
            b.send(["b", number]).wait(timeout=5)
        assert views["b"].data_get() == ["b", 0]
        assert server.data_get() == ["a", 0]
        assert views["a"].data_count() == 5 and views["b"].data_count() == 5
        assert server.data_count() == 10
        assert views["b"].data_get_count(2) == [["b", 1], ["b", 2]]
        assert views["a"].message_get().peer is views["a"].peer
        assert views["a"].data_get_all() == [["a", n] for n in (2, 3, 4, 5)]
        assert views["a"].data_empty() and not server.data_empty()
        assert server.data_get_all() == [["b", 3], ["b", 4], ["b", 5]]
        with pytest.raises(MailboxEmpty):
            views["a"].data_get(0.05)
        b.send("not for a")
        with pytest.raises(MailboxEmpty):
            views["a"].data_get(0.1)
        views["b"].send("to b")
        assert b.data_get(5) == "to b"
        assert a.data_empty()


def test_two_views_wait_at_once_and_each_gets_its_own() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, max_peers=2) as server,
        ClientP2P(server.address, Json, name="a") as a,
        ClientP2P(server.address, Json, name="b") as b,
    ):
        server.wait_connected(2, timeout=5)
        got: dict[str, list[Any]] = {"a": [], "b": []}

        def take(view: Any) -> None:
            got[view.peer.name].extend(view.data_get(10) for _ in range(300))

        with Threads() as threads:
            for peer in server.peers():
                threads.start(take, server.link(peer))
            for number in range(300):
                a.send(["a", number])
                b.send(["b", number])
        assert got == {name: [[name, number] for number in range(300)] for name in "ab"}


def test_what_a_message_says() -> None:
    before = time.time()
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json, name="x") as client:
        client.send({"a": 1})
        message = server.message_get(5)
        assert message.data == {"a": 1}
        assert message.peer is server.peers()[0] and message.peer.name == "x"
        assert before - 1 < message.received_at < time.time() + 1
        assert message.redelivered is False and message.receipt is None


def test_a_message_is_taken_only_when_it_is_acknowledged() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        receipts = [client.send(number) for number in range(3)]
        messages = [server.message_get(5, ack=False) for _ in range(3)]
        assert [message.data for message in messages] == [0, 1, 2]
        for receipt in receipts:
            assert receipt.wait(timeout=5) is Stage.RECEIVED
        messages[1].ack()
        messages[0].ack()
        messages[0].ack()
        assert receipts[1].wait(Stage.TAKEN, timeout=5) is Stage.TAKEN
        assert receipts[2].stage is Stage.RECEIVED
        messages[2].ack()
        assert receipts[2].wait(Stage.TAKEN, timeout=5) is Stage.TAKEN


def test_iteration_in_several_threads_until_the_end() -> None:
    got: list[int] = []
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        server.wait_connected(timeout=5)
        with Threads() as threads:
            for _ in range(3):
                threads.start(lambda: got.extend(client))
            for number in range(1000):
                server.send(number)
            server.end()
        assert sorted(got) == list(range(1000))
        with pytest.raises(EndOfData):
            client.data_get()


def test_the_mailbox_of_a_server_of_asks_counts_asks() -> None:
    with ServerAR("tcp://127.0.0.1:0") as server, ClientAR(server.address, keep_alive=True) as client:
        for _ in range(3):
            client.send(b"xxxxx")
        wait_until(lambda: server.data_count() == 3)
        requests = server.data_get_count(2)
        requests += server.data_get_all()
        for request in requests:
            request.answer(request.data)
        wait_until(lambda: client.data_count() == 3)
        assert client.data_get_count(3) == [b"xxxxx"] * 3
