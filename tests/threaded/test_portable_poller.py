"""The poller for platforms without epoll does the same work (here: on this platform)."""

from __future__ import annotations

import signal
import socket
import threading

import pytest

from linkbox import ClientAR, ClientP2M, ClientP2P, EventKind, ServerAR, ServerP2M, ServerP2P
from linkbox.networks import sockets_threaded
from linkbox.networks.poller import READ, WRITE, Poller


@pytest.fixture(autouse=True)
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets_threaded, "make_poller", Poller)


def test_a_conversation_both_ways() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        for number in range(200):
            client.send(b"%d" % number)
            assert server.data_get(5) == b"%d" % number
            server.send(b"back %d" % number)
            assert client.data_get(5) == b"back %d" % number
        client.end()
        assert list(client) == []


def test_a_timeout_may_be_as_long_as_you_like() -> None:
    for seconds in (2.2e6, 1e10, 1e300):
        with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
            client.send(b"x")
            assert server.data_get(seconds) == b"x"
            server.send(b"y")
            assert client.data_get(seconds) == b"y"


def test_callbacks_run_while_nobody_waits() -> None:
    heard = threading.Semaphore(0)
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.add_callback(lambda event: heard.release(), EventKind.DATA)
        for _ in range(20):
            client.send(b"x")
            assert heard.acquire(timeout=5)
        assert server.data_count() == 20


def test_many_clients_and_large_messages() -> None:
    large = bytes(range(256)) * 20_000
    with ServerP2M("tcp://127.0.0.1:0") as server:
        clients = [ClientP2M(server.address, blocking=False) for _ in range(5)]
        for client in clients:
            client.send(large)
        for client in clients:
            client.flush(20)
        assert [server.data_get(5) for _ in clients] == [large] * 5
        for client in clients:
            assert client.stop()


def test_asks_from_many_threads() -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data[::-1]) as server,
        ClientAR(server.address, keep_alive=True) as kept,
        ClientAR(server.address) as single,
    ):
        answers: list[bytes] = []

        def ask(client: ClientAR[bytes, object]) -> None:
            for _ in range(25):
                answers.append(client.ask(b"abc", timeout=10))

        threads = [threading.Thread(target=ask, args=(client,)) for client in (kept, single) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert answers == [b"cba"] * 200


def test_a_signal_handler_stops_the_endpoint_that_its_thread_waits_on() -> None:
    server = ServerP2P("tcp://127.0.0.1:0").start()
    stopped: list[bool] = []
    before = signal.signal(signal.SIGALRM, lambda *_: stopped.append(server.stop(5)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert list(server) == []
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stopped == [True]


def test_what_is_not_watched_is_not_reported() -> None:
    poller = Poller()
    first, second = socket.socketpair()
    try:
        poller.watch(first.fileno(), READ | WRITE, False)
        assert poller.poll(1) == [(first.fileno(), WRITE)]
        second.send(b"x")
        poller.watch(first.fileno(), READ, True)
        poller.poll(0)  # takes the wake-up that watching caused
        assert poller.poll(1) == [(first.fileno(), READ)]
        poller.watch(first.fileno(), 0, True)
        poller.forget(first.fileno())
        poller.poll(0)
        assert poller.poll(0) == []
    finally:
        first.close()
        second.close()
        poller.close()
