"""The bell: what callbacks are promised, beside pollers that nothing disturbs."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

import linkbox
from linkbox import (
    Backoff,
    ClientP2M,
    ClientP2P,
    Event,
    EventKind,
    Json,
    Limits,
    MailboxEmpty,
    MailboxFull,
    PeerLost,
    ServerP2M,
    ServerP2P,
    Stage,
    StateError,
    Typed,
)
from tests.threaded.helpers import Ear, Relay, Threads, for_ever, wait_until


def test_one_event_per_message_in_order_and_the_message_is_there() -> None:
    missing: list[int] = []

    def take(event: Event) -> Any:
        assert not event.endpoint.data_empty()
        assert event.endpoint.data_count() >= 1
        return event.endpoint.data_get()

    ear = Ear(take)
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        server.add_callback(ear)
        for number in range(20_000):
            client.send(number)
        ear.wait(20_000)
        assert ear.results == list(range(20_000))
        assert server.data_empty() and not missing
        client.send("one more").wait(timeout=5)
        ear.wait(20_001)
    assert len(ear.events) == 20_001
    assert set(ear.kinds()) == {EventKind.DATA}


def test_what_an_event_says() -> None:
    ear = Ear()
    before = time.time()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address, name="Ann") as client:
        server.add_callback(ear)
        client.send(b"x")
        event = ear.wait()
        assert event.kind is EventKind.DATA and event.endpoint is server
        assert event.peer is server.peers()[0] and event.peer.name == "Ann"
        assert event.error is None and event.receipt is None
        assert before - 1 <= event.at <= time.time() + 1
        assert not [name for name in dir(event) if name in ("data", "payload", "message")]
        with pytest.raises(AttributeError):
            event.kind = EventKind.END


def test_callbacks_are_serial_and_in_the_order_they_were_added() -> None:
    running, most, calls = [0], [0], []

    def make(name: str) -> Any:
        def callback(event: Event) -> None:
            running[0] += 1
            most[0] = max(most[0], running[0])
            calls.append(name)
            time.sleep(0)  # Let others in, if any could come.
            running[0] -= 1

        return callback

    with ServerP2P("tcp://127.0.0.1:0", max_peers=4) as server:
        for name in "abc":
            server.add_callback(make(name), EventKind.DATA, EventKind.CONNECTED)
        with Threads() as threads:
            for _ in range(4):
                threads.start(_send_some, server.address, 200)
        wait_until(lambda: len(calls) == 3 * (4 + 800), f"{len(calls)} calls")
    assert most == [1]
    assert "".join(calls) == "abc" * 804


def _send_some(address: str, count: int) -> None:
    with ClientP2P(address) as client:
        for _ in range(count):
            client.send(b"x")


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_a_callback_that_raises_is_logged_and_the_stream_goes_on(
    error: BaseException, caplog: pytest.LogCaptureFixture, may_log_errors: None
) -> None:
    def bad(event: Event) -> None:
        raise error

    good = Ear(lambda event: event.endpoint.data_get())
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        server.add_callback(bad)
        server.add_callback(good)
        for number in range(5):
            client.send(number)
        good.wait(5)
        assert good.results == [0, 1, 2, 3, 4]
        wait_until(lambda: server.statistics().callback_errors == 5, "all are counted")
    records = [record for record in caplog.records if record.exc_info and record.exc_info[1] is error]
    assert len(records) == 5
    assert "bad" in records[0].getMessage()


def test_a_callback_may_call_anything() -> None:
    done = threading.Event()

    def busy(event: Event) -> None:
        server, peer = event.endpoint, event.peer
        assert server.data_get_count(1) == ["work"]
        with pytest.raises(MailboxEmpty):
            server.data_get()
        with pytest.raises(MailboxEmpty):
            server.data_get(0.01)
        with pytest.raises(MailboxEmpty):
            server.message_get()
        assert server.data_get_all() == [] and server.data_count() == 0
        assert server.send("reply", to=peer).stage <= Stage.TAKEN
        assert server.broadcast("all")[peer].wait(timeout=5) >= Stage.RECEIVED
        assert peer in server.peers()
        assert server.statistics().messages_received == 1
        server.wait_connected(1, timeout=1)
        server.add_callback(print, EventKind.RESUMED)
        server.remove_callback(print)
        with pytest.raises(StateError):
            next(iter(server))
        server.link(peer).end()
        done.set()

    ear = Ear(busy)
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        server.add_callback(ear)
        client.send("work")
        assert done.wait(10), ear.events
        assert list(client) == ["reply", "all"]


def test_waiting_messages_ring_when_the_first_callback_is_added() -> None:
    first, second = Ear(), Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        for _ in range(10):
            client.send(b"x").wait(timeout=5)
        server.data_get()
        server.add_callback(first)
        first.wait(9)
        server.add_callback(second)  # Only the first callback is told of what was waiting.
        client.send(b"y").wait(timeout=5)
        second.wait(1)
        first.wait(10)
        assert len(first.events) == 10 and len(second.events) == 1


def test_messages_waiting_from_an_earlier_life_ring_too() -> None:
    ear = Ear(lambda event: event.endpoint.data_get(0))
    server = ServerP2P("tcp://127.0.0.1:0").start()
    with ClientP2P(server.address) as client:
        client.send(b"left over").wait(timeout=5)
    server.stop()
    server.add_callback(ear)
    with server:
        ear.wait()
        assert ear.results == [b"left over"]


def test_remove_callback() -> None:
    ear, other = Ear(), Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.add_callback(ear, EventKind.DATA, EventKind.END)
        server.add_callback(other)
        client.send(b"x")
        other.wait(1)
        server.remove_callback(ear)
        with pytest.raises(ValueError):
            server.remove_callback(ear)
        client.send(b"y")
        other.wait(2)
        client.end()
        wait_until(lambda: not server.peers())
        assert len(ear.events) == 1
        server.remove_callback(other)
        server.add_callback(ear)
        ear.wait(3)  # Nobody took the two messages: they ring for the newcomer.


def test_a_callback_removes_itself() -> None:
    calls: list[Event] = []

    def once(event: Event) -> None:
        calls.append(event)
        event.endpoint.remove_callback(once)

    other = Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.add_callback(once)
        server.add_callback(other)
        for _ in range(10):
            client.send(b"x")
        other.wait(10)
    assert len(calls) == 1


def test_decorator_and_wrong_callbacks() -> None:
    server = ServerP2P("tcp://127.0.0.1:0")
    heard: list[EventKind] = []

    @server.on(EventKind.CONNECTED, EventKind.DISCONNECTED)
    def listen(event: Event) -> None:
        heard.append(event.kind)

    assert callable(listen)
    with pytest.raises(TypeError):
        server.add_callback(7)
    with pytest.raises(TypeError):
        server.add_callback(print, "data")
    with server:
        with ClientP2P(server.address):
            pass
        wait_until(lambda: len(heard) == 2)
    assert heard == [EventKind.CONNECTED, EventKind.DISCONNECTED]


def test_delivered_names_each_receipt_once() -> None:
    ear = Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        client.add_callback(ear, EventKind.DELIVERED)
        receipts = [client.send(b"x") for _ in range(1000)]
        ear.wait(1000)
        assert [event.receipt for event in ear.events] == receipts
        assert all(receipt.stage >= Stage.RECEIVED for receipt in receipts)
        assert ear.events[0].peer == client.peers()[0]


def test_error_names_the_rejected_message_on_both_sides() -> None:
    here, there = Ear(), Ear()
    with ServerP2P("tcp://127.0.0.1:0", Typed(int)) as server, ClientP2P(server.address, Json) as client:
        server.add_callback(there, EventKind.ERROR)
        client.add_callback(here, EventKind.ERROR)
        bad = client.send("no int")
        event = here.wait()
        assert event.receipt is bad and isinstance(event.error, linkbox.DecodeError)
        event = there.wait()
        assert isinstance(event.error, linkbox.DecodeError) and event.peer is server.peers()[0]
        assert client.send(1).wait(timeout=5) >= Stage.RECEIVED


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "error"])
def test_overflow_rings_and_is_counted(policy: Any) -> None:
    ear, failed = Ear(), Ear()
    limits = Limits(mailbox_messages=5)
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, limits=limits, overflow=policy) as server,
        ClientP2P(server.address, Json) as client,
    ):
        server.add_callback(ear, EventKind.OVERFLOW)
        client.add_callback(failed, EventKind.ERROR)
        receipts = [client.send(number) for number in range(12)]
        ear.wait(7)
        for receipt in receipts[:5] if policy != "drop_oldest" else receipts[7:]:
            assert receipt.wait(timeout=5) >= Stage.RECEIVED
        if policy == "drop_oldest":
            assert server.data_get_all() == list(range(7, 12))
            for receipt in receipts[:7]:  # It was there, and will never be taken.
                with pytest.raises(MailboxFull):
                    receipt.wait(Stage.TAKEN, timeout=5)
        else:
            assert server.data_get_all() == list(range(5))
            for receipt in receipts[5:]:
                with pytest.raises(MailboxFull):
                    receipt.wait(timeout=5)
            failed.wait(7)
        assert server.statistics().dropped == 7
        assert len(ear.events) == 7 and ear.events[0].peer == server.peers()[0]


def test_block_makes_the_sender_wait_and_loses_nothing() -> None:
    limits = Limits(mailbox_messages=10, window_messages=10)
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, limits=limits) as server,
        ClientP2P(server.address, Json, limits=limits) as client,
    ):
        numbers = iter(range(1000))
        with pytest.raises(MailboxFull):
            for_ever(lambda: client.send(next(numbers), timeout=0.3))
        refused = next(numbers) - 1
        assert 10 <= refused <= 21
        with Threads() as threads:
            threads.start(lambda: [client.send(number) for number in range(refused, 1000)])
            assert [server.data_get(5) for _ in range(1000)] == list(range(1000))


def test_a_full_send_window_in_a_callback_raises_at_once() -> None:
    limits = Limits(window_messages=5, mailbox_messages=5)
    times: list[float] = []

    def answer(event: Event) -> Any:
        began = time.monotonic()
        try:
            while True:
                event.endpoint.send(b"x", timeout=30)
        except MailboxFull as error:
            times.append(time.monotonic() - began)
            return type(error)

    ear = Ear(answer)
    with (
        ServerP2P("tcp://127.0.0.1:0", limits=limits) as server,
        ClientP2P(server.address, limits=limits) as client,
    ):
        server.add_callback(ear)
        client.send(b"go")
        ear.wait()
        assert ear.results == [MailboxFull] and times[0] < 2
        client.data_get_count(5, 5)  # Or stop() would wait for what it cannot deliver.


def test_a_blocking_callback_is_named_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("linkbox.operations.callbacks.PATIENCE", 0.1)
    release = threading.Event()

    def sleepy(event: Event) -> None:
        release.wait(20)

    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.add_callback(sleepy)
        for _ in range(3):
            client.send(b"x")

        def warnings() -> list[str]:
            return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

        wait_until(lambda: any("sleepy" in text and "blocking" in text for text in warnings()), "a warning")
        release.set()


def test_callbacks_of_two_endpoints_run_side_by_side() -> None:
    met = threading.Barrier(2)
    first, second = Ear(lambda event: met.wait(10)), Ear(lambda event: met.wait(10))
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.add_callback(first)
        client.add_callback(second)
        server.wait_connected(timeout=5)
        client.send(b"x")
        server.send(b"y")
        first.wait()
        second.wait()
        assert len(first.results) == len(second.results) == 1


def test_connected_and_disconnected_of_many() -> None:
    ear = Ear()
    with ServerP2M("tcp://127.0.0.1:0") as server:
        server.add_callback(ear, EventKind.CONNECTED, EventKind.DISCONNECTED)
        with Threads() as threads:
            for _ in range(20):
                threads.start(_push_one, server.address)
        ear.wait(20, EventKind.DISCONNECTED)
        assert ear.kinds().count(EventKind.CONNECTED) == 20
        for peer in {event.peer for event in ear.events}:
            kinds = [event.kind for event in ear.events if event.peer is peer]
            assert kinds == [EventKind.CONNECTED, EventKind.DISCONNECTED]
        assert server.data_count() == 20


def _push_one(address: str) -> None:
    with ClientP2M(address) as client:
        client.send(b"x")


def test_disconnected_says_why() -> None:
    ear = Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server, Relay(server.address) as relay:
        server.add_callback(ear, EventKind.DISCONNECTED)
        client = ClientP2P(relay.address, reconnect=Backoff(initial=5)).start()
        server.wait_connected(timeout=5)
        relay.cut()
        assert isinstance(ear.wait().error, PeerLost)
        client.stop(1)
