"""stop(): from anywhere, at any moment, any number of times; and start() after it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from linkbox import (
    ClientAR,
    ClientP2M,
    ClientP2P,
    ConnectFailed,
    EndOfData,
    EventKind,
    Incomplete,
    Json,
    LinkboxError,
    LinkError,
    MailboxEmpty,
    PeerLost,
    ServerAR,
    ServerP2M,
    ServerP2P,
    StateError,
)
from linkbox.threaded.runtime import ServiceThread
from tests.threaded.helpers import PROMPT, Ear, Threads, core_of, free_port, wait_until


def _quickly(call: Callable[[], Any]) -> Any:
    began = time.monotonic()
    result = call()
    assert time.monotonic() - began < PROMPT
    return result


def test_stop_wakes_everyone_who_waits() -> None:
    ended: list[type[BaseException]] = []

    def waits(call: Callable[[], Any]) -> None:
        try:
            call()
        except LinkboxError as error:
            ended.append(type(error))

    server = ServerP2P("tcp://127.0.0.1:0").start()
    client = ClientP2P(server.address).start()
    server.wait_connected(timeout=5)
    with Threads() as threads:
        for call in (
            server.data_get,
            server.message_get,
            lambda: server.data_get_count(10),
            lambda: list(server),
            server.link(server.peers()[0]).data_get,
        ):
            threads.start(waits, call)
        threads.start(waits, lambda: server.wait_connected(2))
        wait_until(lambda: len(server._operations.mailbox.changed.waiters) == 5, "all wait")
        assert _quickly(server.stop)
    client.stop()
    # list() ends without an error: that is the end of the conversation.
    assert sorted(kind.__name__ for kind in ended) == ["EndOfData"] * 4 + ["StateError"]


@pytest.mark.parametrize("side", ["server", "client"])
def test_stop_from_eight_threads(side: str) -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.wait_connected(timeout=5)
        for _ in range(100):
            client.send(b"x" * 1000)
            server.send(b"y" * 1000)
        results: list[bool] = []
        endpoint = server if side == "server" else client
        barrier = threading.Barrier(8)

        def stop() -> None:
            barrier.wait(5)
            results.append(endpoint.stop())

        with Threads(12) as threads:
            for _ in range(8):
                threads.start(stop)
        assert results == [True] * 8
        assert len(server.data_get_all()) == 100
        assert len(client.data_get_all()) == 100


@pytest.mark.parametrize("kind", [EventKind.DATA, EventKind.CONNECTED, EventKind.END])
def test_stop_inside_a_callback(kind: EventKind) -> None:
    server = ServerP2P("tcp://127.0.0.1:0")
    ear = Ear(lambda event: event.endpoint.stop(5))
    server.add_callback(ear, kind)
    server.start()
    with ClientP2P(server.address) as client:
        try:
            client.send(b"one")
            client.end()
        except StateError:
            assert kind is EventKind.CONNECTED  # The server may be quicker.
        ear.wait(kind=kind)
        with pytest.raises(EndOfData):
            client.data_get(5)
    assert ear.results == [True]
    assert server.stop() is True
    with pytest.raises(StateError):
        server.send(b"late")


def test_stop_inside_a_callback_of_the_client_while_the_server_floods() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        client = ClientP2P(server.address)
        ear = Ear(lambda event: client.stop(5))
        client.add_callback(ear)
        client.start()
        server.wait_connected(timeout=5)
        try:
            for _ in range(5000):
                server.send(b"x" * 500)
        except StateError:
            pass  # It has ended the conversation, which is its right.
        ear.wait()
        wait_until(lambda: ear.results, "stop returned")
        assert ear.results[0] is True
        assert client.data_count() >= 500  # What is in the mailbox stays readable.
        assert client.data_get() == b"x" * 500


def test_what_is_in_the_mailbox_stays_readable() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json) as server:
        with ClientP2P(server.address, Json) as client:
            for number in range(10):
                client.send(number)
        server.stop()
        assert server.data_count() == 10
        assert server.data_get() == 0
        assert server.data_get_count(3) == [1, 2, 3]
        assert server.message_get().data == 4
        with pytest.raises(Incomplete) as caught:
            server.data_get_count(9)
        assert caught.value.available == 5
        assert list(server) == [5, 6, 7, 8, 9]
        for call in (server.data_get, server.message_get, lambda: server.data_get_count(1)):
            with pytest.raises(EndOfData):
                call()
        assert server.data_get_all() == [] and server.data_empty()


def test_start_after_stop_has_the_same_port_and_a_fresh_conversation() -> None:
    server = ServerP2P(("127.0.0.1", free_port()))
    assert server.start() is server
    address = server.address
    for life in range(5):
        with ClientP2P(address) as client:
            client.send(b"life %d" % life).wait(timeout=5)
            assert server.data_get(5) == b"life %d" % life
            server.send(b"ok")
            assert client.data_get(5) == b"ok"
        assert server.stop()
        assert server.address == address
        assert server.start() is server
        assert server.address == address
    server.stop()


def test_a_client_starts_again_after_stop() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        client = ClientP2P(server.address)
        for life in range(5):
            client.start()
            assert client.send(b"%d" % life).wait(timeout=5)
            assert server.data_get(5) == b"%d" % life
            assert client.stop()
            with pytest.raises(StateError):
                client.send(b"too late")
            with pytest.raises(EndOfData):
                client.data_get(0)


def test_start_twice_is_one_start() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        address = server.address
        assert server.start() is server
        assert server.address == address
        with ClientP2P(address) as client:
            assert client.start() is client
            assert len(server.wait_connected(timeout=5) or server.peers()) == 1


def test_before_start_there_is_a_state_error_that_says_what_to_do() -> None:
    server, client = ServerP2P("tcp://127.0.0.1:0"), ClientP2P(("127.0.0.1", free_port()))
    calls: list[Callable[[], Any]] = [
        server.data_get,
        lambda: server.data_get(0),
        server.message_get,
        lambda: server.data_get_count(1),
        lambda: server.send(b""),
        server.end,
        lambda: server.broadcast(b""),
        lambda: server.wait_connected(timeout=1),
        client.data_get,
        lambda: client.send(b""),
        client.end,
        lambda: client.wait_connected(timeout=1),
    ]
    for call in calls:
        with pytest.raises(StateError, match=r"start\(\)"):
            call()
    assert server.data_get_all() == [] and server.data_count() == 0 and server.data_empty()
    assert server.peers() == () and server.statistics().messages_received == 0
    assert server.stop() is True and client.stop() is True


def test_stop_flushes_what_was_sent() -> None:
    """stop() right after a burst: all of it arrives, and stop() says so."""
    with ServerP2P("tcp://127.0.0.1:0", Json) as server:
        client = ClientP2P(server.address, Json).start()
        for number in range(20_000):
            client.send(number)
        assert client.stop(20) is True
        assert server.data_get_all() == list(range(20_000))


def test_stop_says_false_when_not_all_was_acknowledged() -> None:
    """A peer that has vanished without a word: stop() ends in time, and does not claim success."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = ClientP2P(("127.0.0.1", listener.getsockname()[1]), connect_timeout=30).start(wait=False)
        began = time.monotonic()
        client.stop(0.5)
        assert time.monotonic() - began < PROMPT


def test_stop_of_a_server_with_an_unread_backlog_returns_in_time() -> None:
    """The client takes nothing, its mailbox is full: what is left over is lost, and stop() says False."""
    from linkbox import Limits

    server = ServerP2P("tcp://127.0.0.1:0").start()
    client = ClientP2P(server.address, limits=Limits(mailbox_bytes=100_000)).start()
    server.wait_connected(timeout=5)
    receipts = [server.send(b"x" * 10_000) for _ in range(300)]
    assert _quickly(lambda: server.stop(1.0)) is False
    assert isinstance(receipts[-1].error, LinkError)
    with pytest.raises(PeerLost):
        receipts[-1].wait(timeout=1)
    _quickly(lambda: client.stop(1.0))


def test_stop_while_everything_happens() -> None:
    """Connecting, sending, receiving, callbacks: stop() comes in the middle, fifteen times."""
    for round_ in range(15):
        server = ServerP2P("tcp://127.0.0.1:0", max_peers=50).start()
        server.add_callback(lambda event: event.endpoint.data_get_all())
        over = threading.Event()

        def client_life(address: str = server.address, over: threading.Event = over) -> None:
            while not over.is_set():
                client = ClientP2P(address, reconnect=None, connect_timeout=2)
                try:
                    with client:
                        for _ in range(50):
                            client.send(b"x" * 100)
                        client.data_get(0.001)
                except (LinkError, StateError, EndOfData, MailboxEmpty):
                    pass

        def talk(server: ServerP2P = server) -> None:
            try:
                while True:
                    server.broadcast(b"news")
                    server.data_get(0.001)
            except (StateError, EndOfData):
                return
            except MailboxEmpty:
                talk()

        with Threads(20) as threads:
            for _ in range(4):
                threads.start(client_life)
            threads.start(talk)
            server.wait_connected(1 + round_ % 3, timeout=10)
            _quickly(lambda server=server: server.stop(2))
            over.set()


def test_stop_while_a_client_still_connects() -> None:
    """Nobody answers there (a full backlog): start() in one thread, stop() in another."""
    failures: list[type[BaseException]] = []

    def start(client: ClientP2P) -> None:
        try:
            client.start()
        except (ConnectFailed, StateError, EndOfData) as error:
            failures.append(type(error))

    client = ClientP2P(("127.0.0.1", free_port()), connect_timeout=30)
    with Threads() as threads:
        threads.start(start, client)
        wait_until(lambda: core_of(client) is not None and core_of(client).channels, "it tries")
        _quickly(client.stop)
    assert len(failures) == 1


def test_stop_in_an_ask_and_in_a_handler() -> None:
    started, release = threading.Event(), threading.Event()

    def handler(request: Any) -> bytes:
        started.set()
        release.wait(30)
        return b"late"

    errors: list[BaseException] = []
    server = ServerAR("tcp://127.0.0.1:0", handler=handler).start()
    client = ClientAR(server.address)

    def ask() -> None:
        try:
            client.ask(b"?")
        except LinkboxError as error:
            errors.append(error)

    with Threads() as threads:
        threads.start(ask)
        assert started.wait(5)
        _quickly(lambda: client.stop(1))
    assert len(errors) == 1
    # Its handler still sleeps: stop() keeps to its timeout.
    assert _quickly(lambda: server.stop(1.0)) in (True, False)
    release.set()


def test_stop_in_a_blocked_send() -> None:
    from linkbox import Limits

    limits = Limits(window_messages=10, mailbox_messages=10)
    errors: list[BaseException] = []

    def send() -> None:
        try:
            while True:
                client.send(b"x")
        except LinkboxError as error:
            errors.append(error)

    with ServerP2P("tcp://127.0.0.1:0", limits=limits) as server:
        client = ClientP2P(server.address, limits=limits).start()
        with Threads() as threads:
            threads.start(send)
            wait_until(lambda: server.data_count() >= 10, "it is full")
            _quickly(lambda: client.stop(0.5))
    assert [type(error) for error in errors] == [StateError]


def test_stop_of_all_six_when_nothing_ever_happened() -> None:
    port = free_port()
    for endpoint in (
        ServerP2P("tcp://127.0.0.1:0"),
        ServerP2M("tcp://127.0.0.1:0"),
        ServerAR("tcp://127.0.0.1:0", handler=lambda request: b""),
        ClientP2M(("127.0.0.1", port)),
        ClientP2M(("127.0.0.1", port), blocking=False),
        ClientAR(("127.0.0.1", port)),
        ClientAR(("127.0.0.1", port), keep_alive=True),
    ):
        with endpoint:
            pass
        assert _quickly(endpoint.stop) is True
        assert _quickly(endpoint.start) is endpoint
        assert _quickly(endpoint.stop) is True


def test_stop_with_no_time_at_all() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        client.send(b"x" * 100_000)
        _quickly(lambda: client.stop(0))
        _quickly(lambda: server.stop(0))


def test_stop_waits_for_its_threads_also_after_its_time() -> None:
    """A peer that does not respond uses up the timeout: its threads end nevertheless before it returns."""
    before = set(threading.enumerate())
    for _ in range(10):
        server = ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data, workers=50).start()
        client = ClientAR(server.address, keep_alive=True).start()
        assert client.ask(b"x") == b"x"
        core_of(client).links.abort_all()  # Its FIN may arrive after the deadline.
        server.stop(1e-9)
        client.stop(1e-9)
        assert set(threading.enumerate()) <= before, "a thread is alive"


def test_a_thread_is_not_taken_for_one_that_has_ended() -> None:
    """The system gives the number of a thread to the next one: that is no thread of the endpoint."""
    threads = ServerP2P("tcp://127.0.0.1:0")._threads
    found: list[bool] = []
    for _ in range(100):
        service = ServiceThread(threads, lambda: iter(()), "ends at once")  # type: ignore[arg-type,return-value]
        service.start()
        service.thread.join()
        other = threading.Thread(target=lambda each: found.append(each.is_current()), args=(service,))
        other.start()
        other.join()
    assert found == [False] * 100
