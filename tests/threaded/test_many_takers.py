"""Pollers and callbacks on one mailbox at once: each message is taken exactly once, in order per peer."""

from __future__ import annotations

import threading
from collections import defaultdict

import pytest

import linkbox
from linkbox import ClientP2P, EndOfData, Event, EventKind, Json, MailboxEmpty, ServerP2M, ServerP2P
from tests.threaded.helpers import Ear, Threads, wait_until

CLIENTS, EACH = 10, 10_000


class Register:
    """Who took what. Order per client is checked where one thread takes: between takers none is promised."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.by_taker: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.count = 0

    def note(self, taker: str, item: list[int]) -> None:
        with self._lock:
            self.by_taker[taker].append((item[0], item[1]))
            self.count += 1

    def check(self, clients: int, each: int) -> None:
        everything = sorted(item for items in self.by_taker.values() for item in items)
        assert everything == [(client, number) for client in range(clients) for number in range(each)]
        for taker, items in self.by_taker.items():
            last = [-1] * clients
            for client, number in items:
                assert number > last[client], f"{taker}: {number} of client {client} after {last[client]}"
                last[client] = number


def _send_all(address: str, client: int, each: int) -> None:
    with ClientP2P(address, Json) as link:
        for number in range(each):
            link.send([client, number])
        assert link.stop(30)


@pytest.mark.parametrize("callback_takes", ["half", "what it finds"])
def test_ten_clients_two_pollers_and_a_callback(callback_takes: str) -> None:
    register = Register()
    total = CLIENTS * EACH
    rings = 0

    def on_data(event: Event) -> None:
        nonlocal rings
        rings += 1
        if callback_takes == "half" and rings % 2:
            return
        try:
            register.note("callback", event.endpoint.data_get())
        except MailboxEmpty:
            pass  # A poller was quicker.

    def poll(name: str) -> None:
        while register.count < total:
            try:
                register.note(name, server.data_get(0.05))
            except MailboxEmpty:
                continue

    with ServerP2P("tcp://127.0.0.1:0", Json, max_peers=CLIENTS) as server:
        server.add_callback(on_data)
        with Threads(80) as threads:
            threads.start(poll, "first poller")
            threads.start(poll, "second poller")
            for client in range(CLIENTS):
                threads.start(_send_all, server.address, client, EACH)
        wait_until(lambda: rings >= total, "each message rings")
        assert rings == total
        assert server.data_empty() and server.data_count() == 0
        assert server.statistics().messages_received == total
    assert rings == total
    register.check(CLIENTS, EACH)


def test_ten_clients_into_one_p2m_mailbox_taken_by_many() -> None:
    each = 2000
    register = Register()

    def poll(name: str) -> None:
        while True:
            try:
                message = server.message_get()
            except EndOfData:
                return
            register.note(name, message.data)

    def push(client: int) -> None:
        pusher = linkbox.ClientP2M(server.address, Json)
        assert pusher.send_many([client, number] for number in range(each)) == each
        assert pusher.stop()

    with ServerP2M("tcp://127.0.0.1:0", Json) as server, Threads() as takers:
        for name in "abcd":
            takers.start(poll, name)
        with Threads() as senders:
            for client in range(CLIENTS):
                senders.start(push, client)
        wait_until(lambda: register.count == CLIENTS * each, "all taken")
        server.stop()
    register.check(CLIENTS, each)


@pytest.mark.parametrize("takers", [1, 2, 8])
def test_all_ways_of_taking_at_once(takers: int) -> None:
    """data_get, data_get_count, data_get_all and message_get compete, and nothing is lost or doubled."""
    each = 3000
    register = Register()

    def take(name: str, way: int) -> None:
        while register.count < 2 * each:
            try:
                if way == 0:
                    items = [server.data_get(0.02)]
                elif way == 1:
                    items = server.data_get_count(7, 0.02)
                elif way == 2:
                    items = server.data_get_all()
                else:
                    items = [server.message_get(0.02).data]
            except MailboxEmpty:
                continue
            for item in items:
                register.note(name, item)

    with ServerP2P("tcp://127.0.0.1:0", Json, max_peers=2) as server, Threads() as threads:
        for number in range(takers):
            threads.start(take, f"taker {number}", number % 4)
        for client in range(2):
            threads.start(_send_all, server.address, client, each)
    register.check(2, each)


def test_one_waiter_is_woken_for_each_message() -> None:
    """Twenty threads wait, twenty messages come one by one: each thread gets one."""
    got: list[bytes] = []
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        with Threads() as threads:
            for _ in range(20):
                threads.start(lambda: got.append(server.data_get(20)))
            for number in range(20):
                client.send(b"%d" % number)
                wait_until(lambda number=number: len(got) > number, "one more was taken")
        assert sorted(got, key=int) == [b"%d" % number for number in range(20)]


def test_pollers_that_time_out_lose_nothing() -> None:
    """Deadlines that strike just when a message comes: either the message or MailboxEmpty, never neither."""
    count = 2000
    got: list[int] = []

    def poll() -> None:
        while True:
            try:
                got.append(server.data_get(0.0005))
            except MailboxEmpty:
                continue
            except EndOfData:
                return

    server = ServerP2P("tcp://127.0.0.1:0", Json).start()
    with Threads() as threads:
        for _ in range(4):
            threads.start(poll)
        with ClientP2P(server.address, Json) as client:
            for number in range(count):
                client.send(number)
                if number % 10 == 0:
                    wait_until(lambda number=number: len(got) > number - 20, "it goes on")
            client.send(-1).wait(timeout=10)
        wait_until(lambda: len(got) == count + 1, "all taken")
        server.stop()
    assert sorted(got) == list(range(-1, count))


def test_callbacks_on_both_ends_echo_for_ever() -> None:
    """Two callbacks that answer each other: a ball goes to and fro 5,000 times without anybody polling."""
    done = threading.Event()
    seen: list[int] = []

    def play(event: Event) -> None:
        for ball in event.endpoint.data_get_all():
            seen.append(ball)
            if ball == 5000:
                done.set()
            else:
                event.endpoint.send(ball + 1)

    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        server.add_callback(play)
        client.add_callback(play)
        client.send(0)
        assert done.wait(30), f"it stopped at {seen[-1:]}"
    assert seen == list(range(5001))


def test_a_blocking_callback_hinders_no_poller_and_no_other_peer() -> None:
    release = threading.Event()
    ear = Ear(lambda event: release.wait(30))
    with ServerP2P("tcp://127.0.0.1:0", Json, max_peers=2) as server:
        server.add_callback(ear)
        with ClientP2P(server.address, Json) as first, ClientP2P(server.address, Json) as second:
            for number in range(1000):
                first.send(["first", number])
                second.send(["second", number])
            taken = server.data_get_count(2000, 10)
            assert [item for item in taken if item[0] == "first"] == [["first", n] for n in range(1000)]
            # The way back is open too, and heartbeats and receipts work.
            assert server.send("hello", to=server.peers()[0]).wait(timeout=5) >= linkbox.Stage.RECEIVED
            assert not ear.events
            release.set()
            ear.wait(2000, EventKind.DATA)
            assert len(ear.events) == 2000
