"""Many to one: blocking, not blocking, lingering; a server that is not there; many clients."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from linkbox import (
    Backoff,
    ClientP2M,
    ConnectFailed,
    DeadlineExceeded,
    DecodeError,
    EndOfData,
    EventKind,
    FormatError,
    Json,
    Limits,
    MailboxEmpty,
    MailboxFull,
    PeerLost,
    ServerP2M,
    Stage,
    StateError,
    TooLarge,
    Typed,
)
from tests.threaded.helpers import PATIENCE, PROMPT, Ear, Relay, Threads, core_of, free_port, wait_until


def test_a_blocking_send_returns_when_the_server_has_it_and_closes() -> None:
    ear = Ear()
    with ServerP2M("tcp://127.0.0.1:0", Json) as server:
        server.add_callback(ear, EventKind.CONNECTED, EventKind.END, EventKind.DISCONNECTED)
        with ClientP2M(server.address, Json, name="pusher") as client:
            for number in range(10):
                receipt = client.send(number)
                assert receipt.stage >= Stage.RECEIVED
                assert server.data_count() == number + 1
            ear.wait(10, EventKind.DISCONNECTED)
            assert server.peers() == ()
            wait_until(lambda: not client.peers())
            message = server.message_get()
            assert (message.data, message.peer.name) == (0, "pusher")
        assert server.data_get_all() == list(range(1, 10))
        assert server.statistics().connections_total == 10
        one = [EventKind.CONNECTED, EventKind.END, EventKind.DISCONNECTED]
        assert ear.kinds() == one * 10


def test_send_many_over_one_connection() -> None:
    with ServerP2M("tcp://127.0.0.1:0", Json) as server, ClientP2M(server.address, Json) as client:
        assert client.send_many(range(50_000)) == 50_000
        assert server.data_get_all() == list(range(50_000))
        assert client.send_many([]) == 0
        assert client.send_many(iter(["x"])) == 1
        assert server.data_get(5) == "x"
        assert server.statistics().connections_total == 2


def test_send_many_that_fails_in_the_middle() -> None:
    def values() -> Any:
        yield 1
        yield 2
        raise ZeroDivisionError

    with ServerP2M("tcp://127.0.0.1:0", Json) as server, ClientP2M(server.address, Json) as client:
        with pytest.raises(ZeroDivisionError):
            client.send_many(values())
        with pytest.raises(FormatError):
            client.send_many([1, object()])
        assert client.send_many([3]) == 1
        assert 3 in server.data_get_all()
    with ServerP2M("tcp://127.0.0.1:0", Typed(int)) as server, ClientP2M(server.address, Json) as client:
        with pytest.raises(DecodeError):
            client.send_many([1, "no", 2, "never"])
        with pytest.raises(DecodeError):
            client.send("no")
        client.send(4)
        assert server.data_get_all() == [1, 2, 4]


def test_send_many_through_a_small_mailbox() -> None:
    limits = Limits(mailbox_messages=10, window_messages=20)
    got: list[int] = []
    with ServerP2M("tcp://127.0.0.1:0", Json, limits=limits) as server:
        with ClientP2M(server.address, Json, limits=limits) as client, Threads() as threads:
            with pytest.raises(DeadlineExceeded):
                client.send_many(range(1000), timeout=0.3)
            left = len(server.data_get_all())
            assert 10 <= left <= 40
            wait_until(lambda: not server.peers())
            server.data_get_all()
            threads.start(lambda: got.extend(server.data_get(10) for _ in range(1000)))
            assert client.send_many(range(1000), timeout=20) == 1000
        assert got == list(range(1000))


def test_linger_keeps_the_connection_for_the_next_send() -> None:
    with ServerP2M("tcp://127.0.0.1:0", Json) as server:
        with ClientP2M(server.address, Json, linger=0.5) as client:
            for number in range(20):
                assert client.send(number).stage >= Stage.RECEIVED
            assert server.statistics().connections_total == 1
            assert len(server.peers()) == 1
            wait_until(lambda: not server.peers(), "it lets go after a while", 5)
            client.send(20)
            assert server.statistics().connections_total == 2
            assert client.stop()
        assert server.data_get_all() == list(range(21))


def test_not_blocking() -> None:
    delivered = Ear()
    with ServerP2M("tcp://127.0.0.1:0", Json) as server:
        with ClientP2M(server.address, Json, blocking=False) as client:
            client.add_callback(delivered, EventKind.DELIVERED)
            receipts = [client.send(number) for number in range(20_000)]
            client.flush(20)
            assert all(receipt.stage >= Stage.RECEIVED and receipt.error is None for receipt in receipts)
            assert server.data_get_all() == list(range(20_000))
            delivered.wait(20_000)
            assert client.send_many(range(10)) == 10
            assert client.stop() is True
        assert server.data_get_all() == list(range(10))


def test_not_blocking_from_many_threads() -> None:
    with ServerP2M("tcp://127.0.0.1:0", Json) as server:
        with ClientP2M(server.address, Json, blocking=False) as client, Threads() as threads:
            for thread in range(8):
                threads.start(lambda thread=thread: [client.send([thread, n]) for n in range(2000)])
        got = server.data_get_all()
        for thread in range(8):
            assert [number for who, number in got if who == thread] == list(range(2000))


def test_blocking_from_many_threads_and_one_client() -> None:
    with ServerP2M("tcp://127.0.0.1:0", Json) as server, ClientP2M(server.address, Json) as client:
        with Threads() as threads:
            for thread in range(16):
                threads.start(lambda thread=thread: [client.send([thread, n]) for n in range(20)])
        got = server.data_get_all()
        for thread in range(16):
            assert [number for who, number in got if who == thread] == list(range(20))


def test_nobody_there_when_blocking() -> None:
    with ClientP2M(("127.0.0.1", free_port()), reconnect=None) as client:
        began = time.monotonic()
        with pytest.raises(ConnectFailed, match="nobody listens"):
            client.send(b"x")
        assert time.monotonic() - began < PROMPT
    with ClientP2M(("127.0.0.1", free_port()), connect_timeout=0.4) as client:
        for call in (lambda: client.send(b"x"), lambda: client.send_many([b"x"] * 5)):
            began = time.monotonic()
            with pytest.raises(ConnectFailed):
                call()
            assert 0.2 < time.monotonic() - began < PROMPT


def test_nobody_there_when_not_blocking() -> None:
    patient = ClientP2M(("127.0.0.1", free_port()), blocking=False, connect_timeout=3600)
    began = time.monotonic()
    patient.send(b"x")
    assert time.monotonic() - began < PROMPT
    patient.stop(0)
    ear = Ear()
    client = ClientP2M(("127.0.0.1", free_port()), blocking=False, connect_timeout=0.3)
    client.add_callback(ear, EventKind.ERROR)
    receipt = client.send(b"x")
    event = ear.wait()
    assert isinstance(event.error, ConnectFailed)
    with pytest.raises(ConnectFailed):
        receipt.wait(timeout=5)
    wait_until(lambda: any(event.receipt is receipt for event in ear.events), "the receipt is named")
    client.flush(5)
    assert client.send(b"y").stage is Stage.QUEUED  # It tries again.
    client.stop()


def test_a_server_that_starts_a_moment_later_is_no_error() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    sent: list[Stage] = []
    with ClientP2M(address) as blocking, ClientP2M(address, blocking=False) as other, Threads() as threads:
        receipt = other.send(b"not blocking")
        threads.start(lambda: sent.append(blocking.send(b"blocking").stage))
        wait_until(lambda: core_of(blocking) is not None and core_of(blocking).channels)
        with ServerP2M(address) as server:
            assert receipt.wait(timeout=10) >= Stage.RECEIVED
            wait_until(lambda: sent)
            assert sorted(server.data_get_all()) == [b"blocking", b"not blocking"]


def test_errors_at_once_in_the_callers_thread_also_when_not_blocking() -> None:
    with (
        ServerP2M("tcp://127.0.0.1:0", Json) as server,
        ClientP2M(server.address, Json, blocking=False, limits=Limits(message=100)) as client,
    ):
        with pytest.raises(FormatError):
            client.send(object())
        with pytest.raises(TooLarge):
            client.send("x" * 100)


def test_not_blocking_with_a_full_queue() -> None:
    limits = Limits(window_messages=10)
    address = f"tcp://127.0.0.1:{free_port()}"
    with ClientP2M(address, Json, blocking=False, limits=limits, connect_timeout=20) as client:
        for number in range(10):
            client.send(number, timeout=1)
        began = time.monotonic()
        with pytest.raises(MailboxFull):
            client.send(10, timeout=0.2)
        assert 0.15 < time.monotonic() - began < PROMPT
        with pytest.raises(DeadlineExceeded):
            client.flush(0.1)
        with ServerP2M(address, Json) as server:
            client.send(10, timeout=15)
            client.flush(10)
            assert server.data_get_all() == list(range(11))


def test_a_send_with_a_timeout() -> None:
    with ServerP2M("tcp://127.0.0.1:0") as server, Relay(server.address) as relay:
        with ClientP2M(relay.address, limits=Limits(handshake=20)) as client:
            relay.hold()
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                client.send(b"x", timeout=0.3)
            assert 0.25 < time.monotonic() - began < PROMPT
            relay.release()
            assert client.send(b"y", timeout=PATIENCE)
        # What ran out of time was on its way on a connection of its own: it may arrive, before or after.
        assert [data for data in server.data_get_all() if data != b"x"] == [b"y"]


def test_the_server_goes_while_a_blocking_send_waits() -> None:
    """The mailbox is full, so the message is not acknowledged; then the server is gone for good."""
    server = ServerP2M("tcp://127.0.0.1:0", limits=Limits(mailbox_messages=1)).start()
    errors: list[BaseException] = []
    client = ClientP2M(server.address, reconnect=Backoff(initial=0.01, maximum=0.02, attempts=3))

    def push() -> None:
        try:
            client.send_many([b"x"] * 50_000)
        except (PeerLost, ConnectFailed) as error:
            errors.append(error)

    with Threads() as threads:
        threads.start(push)
        wait_until(server.data_count)
        server.stop(1)
    assert len(errors) == 1
    client.stop(1)


def test_what_these_endpoints_do_not_have() -> None:
    server, client = ServerP2M("tcp://127.0.0.1:0"), ClientP2M(("127.0.0.1", 1))
    for name in ("send", "broadcast", "end"):
        assert not hasattr(server, name)
        with pytest.raises(AttributeError, match="only receives"):
            getattr(server, name)
    for name in ("data_get", "data_get_count", "data_get_all", "data_count", "data_empty", "message_get"):
        assert not hasattr(client, name)
    with pytest.raises(TypeError):
        iter(client)


def test_hundreds_of_client_objects_at_once() -> None:
    """300 objects, each with threads of its own, push three messages each; all descriptors come back."""
    with ServerP2M("tcp://127.0.0.1:0", Json) as server:
        clients = [ClientP2M(server.address, Json, blocking=False) for _ in range(100)]
        clients += [ClientP2M(server.address, Json, linger=1) for _ in range(50)]
        with Threads() as threads:
            for quarter in range(4):
                mine = clients[quarter::4]

                def push(mine: list[Any] = mine, quarter: int = quarter) -> None:
                    for round_ in range(3):
                        for number, client in enumerate(mine):
                            client.send([quarter, number, round_])

                threads.start(push)
        for client in clients:
            assert client.stop() is True
        got = server.data_get_all()
        assert len(got) == 450 and len({tuple(item) for item in got}) == 450


def test_the_server_never_closes_first() -> None:
    """A client that keeps quiet for a while is not sent away."""
    ear = Ear()
    with ServerP2M("tcp://127.0.0.1:0") as server, ClientP2M(server.address, linger=30) as client:
        server.add_callback(ear, EventKind.DISCONNECTED)
        client.send(b"x")
        server.data_get(5)
        threading.Event().wait(0.3)  # Nothing tells when it would have closed.
        assert len(server.peers()) == 1 and not ear.events


def test_a_place_limit_and_a_waiting_early_message() -> None:
    """max_peers=1: the next client's message, sent along with its hello, waits and arrives once."""
    with ServerP2M("tcp://127.0.0.1:0", Json, max_peers=1) as server:
        with ClientP2M(server.address, Json, linger=0.3) as first, ClientP2M(server.address, Json) as second:
            first.send("first")
            assert second.send("second", timeout=15).stage >= Stage.RECEIVED
        assert server.data_get_all() == ["first", "second"]


def test_a_long_push_survives_restarts_of_the_server() -> None:
    """What was under way when the server stopped goes on when it is back: each message once, in order."""
    count, rests = 60_000, 3
    server = ServerP2M("tcp://127.0.0.1:0", Json).start()
    found: list[int] = []

    def take() -> None:
        while len(found) < count:
            try:
                found.append(server.data_get(0.5))
            except (MailboxEmpty, EndOfData, StateError):
                continue  # it rests

    def push() -> None:
        client = ClientP2M(server.address, Json, reconnect=Backoff(initial=0.01, maximum=0.05))
        assert client.send_many(range(count)) == count
        assert client.stop()

    with Threads() as threads:
        threads.start(take)
        threads.start(push)
        for rest in range(rests):
            wait_until(lambda rest=rest: len(found) > rest * count // (rests + 1), "it goes on")
            assert server.stop()
            server.start()
    assert server.stop()
    assert found == list(range(count))


def test_counts_are_exact_though_messages_are_in_hand() -> None:
    ear = Ear()
    with ServerP2M("tcp://127.0.0.1:0", Json) as server:
        with ClientP2M(server.address, Json) as client:
            client.send_many(range(100))
        assert [server.data_get() for _ in range(10)] == list(range(10))
        assert server.data_count() == server.statistics().waiting == 90
        assert [server.data_get() for _ in range(10)] == list(range(10, 20))
        server.add_callback(ear)
        ear.wait(80)
        assert server.data_get_all() == list(range(20, 100))
    assert len(ear.events) == 80
