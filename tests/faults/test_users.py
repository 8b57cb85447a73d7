"""Programs that do what they should not, in callbacks and handlers; and stop() at any moment."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from linkbox import AnswerError, EndOfData, Limits, LinkboxError, MailboxFull
from linkbox.testing import FaultyProxy
from tests.faults.bare import Bare, data
from tests.faults.place import PATIENCE, Place
from tests.threaded.helpers import PROMPT, Threads, wait_until

TIGHT = Limits(window_bytes=100_000)


# --- Callbacks and handlers ---------------------------------------------------------------------------


def test_a_callback_raises(place: Place, may_log_errors: None) -> None:
    """It is logged and counted; the stream, and the other callbacks, go on."""

    def bad(event: Any) -> None:
        raise RuntimeError("out of tune")

    with place.serving() as server:
        server.add_callback(bad)
        ear = place.ear(server)
        with place.client("P2P", server.address, name="bare") as client:
            for number in range(10):
                client.send(b"%d" % number)
            ear.wait(10)
            assert place.view(server).data_get_all() == [b"%d" % number for number in range(10)]
        assert server.statistics().callback_errors >= 10


def test_a_callback_calls_stop(place: Place) -> None:
    """On its own endpoint: stop returns, in the callback too, and what has arrived can still be taken."""
    stopped: list[Any] = []

    def stop(event: Any) -> Any:
        stopped.append(event.endpoint)
        return event.endpoint.stop()  # with aio a coroutine, which is awaited for us

    with place.serving() as other, place.server("P2P") as server:
        server.add_callback(stop)
        client = place.client("P2P", server.address, reconnect=None).start()
        client.send(b"stop!")
        wait_until(lambda: stopped, "it is rung")
        with pytest.raises(EndOfData):
            client.data_get(PATIENCE)
        client.stop()
        assert server.stop(PATIENCE)
        assert server.data_get(0) == b"stop!"
        assert len(other.peers()) == 1


def test_a_callback_blocks(place: Place) -> None:
    """Bytes are still received and acknowledged, data can be taken; its events wait for it."""
    released = threading.Event()
    with place.serving() as server:
        server.add_callback(place.waiting_for(released))
        with place.client("P2P", server.address, name="bare") as client:
            view = place.view(server)
            for number in range(100):
                client.send(b"%d" % number).wait(timeout=PATIENCE)
                assert view.data_get(PATIENCE) == b"%d" % number
            released.set()


def test_a_handler_blocks(place: Place) -> None:
    """It holds one worker, and nobody else's ask."""
    released = threading.Event()
    late = place.waiting_for(released, b"late")

    def handle(request: Any) -> Any:
        return late(request) if request.data == b"slow" else request.data

    with place.serving("AR", handler=handle, workers=4) as server:
        client = place.client("AR", server.address, keep_alive=True)
        with client, ThreadPoolExecutor(3) as threads:
            asks = [threads.submit(client.ask, b"slow") for _ in range(3)]
            assert client.ask(b"quick", timeout=5) == b"quick"
            assert not any(ask.done() for ask in asks)
            released.set()
            assert [ask.result(PATIENCE) for ask in asks] == [b"late"] * 3


def test_a_handler_raises(place: Place, may_log_errors: None) -> None:
    """The asker is told, by class and text; the next ask just works."""

    def handle(request: Any) -> bytes:
        if request.data == b"bad":
            raise KeyError("no such city")
        return bytes(request.data)

    with place.serving("AR", handler=handle) as server, place.client("AR", server.address) as client:
        for _ in range(5):
            with pytest.raises(AnswerError, match="no such city"):
                client.ask(b"bad", timeout=PATIENCE)
            assert client.ask(b"good", timeout=PATIENCE) == b"good"


# --- stop() at any moment -----------------------------------------------------------------------------


def test_stop_from_eight_at_once(place: Place) -> None:
    """Eight threads, or tasks: all return, soon, and with the same answer."""
    with place.serving() as other:
        for _ in range(5):
            server = place.server("P2P").start()
            client = place.client("P2P", server.address, reconnect=None).start()
            client.send(b"x").wait(timeout=PATIENCE)
            for endpoint in (server, client):
                with ThreadPoolExecutor(8) as threads:
                    began = time.monotonic()
                    answers = {threads.submit(endpoint.stop).result(PATIENCE) for _ in range(8)}
                    assert answers <= {True}
                    assert time.monotonic() - began < PROMPT
        assert len(other.peers()) == 1


def test_stop_during_accept(place: Place) -> None:
    """Connections come in while it stops: each is closed, refused or served, none is left hanging."""
    with place.serving() as other:
        for _ in range(5):
            server = place.server("P2P", max_peers=1000).start()
            over = threading.Event()

            def knock(address: str = server.address, over: threading.Event = over) -> None:
                number = 0
                while not over.is_set():
                    try:
                        with Bare(place, address) as bare:
                            number += 1
                            bare.say(b"")
                            bare.meet(session=number)
                    except (OSError, EOFError, AssertionError):
                        pass  # whatever it gets, it must not have to wait for it

            with Threads() as threads:
                for _ in range(3):
                    threads.start(knock)
                wait_until(lambda server=server: server.statistics().connections_total > 3)
                began = time.monotonic()
                server.stop()
                assert time.monotonic() - began < PROMPT
                over.set()
        assert len(other.peers()) == 1


def test_stop_during_recv(place: Place) -> None:
    """Whoever waits for data is told that it is over, at once."""
    with place.serving() as other:
        server = place.server("P2P").start()
        client = place.client("P2P", server.address, reconnect=None).start()
        with ThreadPoolExecutor(4) as threads:
            waiting = [threads.submit(each.data_get) for each in (server, client) for _ in range(2)]
            client.send(b"not enough").wait(timeout=PATIENCE)
            wait_until(lambda: any(each.done() for each in waiting), "one of them gets it")
            began = time.monotonic()
            client.stop()
            server.stop()
            results = [each.exception(PATIENCE) for each in waiting]
            assert time.monotonic() - began < PROMPT
        assert sorted(type(each).__name__ for each in results) == ["EndOfData"] * 3 + ["NoneType"]
        assert len(other.peers()) == 1


def test_stop_during_connect(place: Place) -> None:
    """Nobody answers, or somebody who does not say a word: stop() does not wait for that."""
    with place.serving() as other, socket.create_server(("127.0.0.1", 0)) as silent:
        for kind, call in (("P2P", "start"), ("AR", "ask"), ("P2M", "send")):
            client = place.client(kind, f"tcp://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=30)
            with ThreadPoolExecutor(1) as threads:
                future = threads.submit(getattr(client, call), *([] if call == "start" else [b"?"]))
                connection, _ = silent.accept()
                began = time.monotonic()
                client.stop(0.5)  # what was asked or sent is waited for, so long
                assert isinstance(future.exception(PATIENCE), (LinkboxError, OSError))
                assert time.monotonic() - began < PROMPT
                connection.close()
        assert len(other.peers()) == 1


def test_stop_with_a_flood_coming_in(place: Place) -> None:
    """A peer that never stops talking does not keep it from stopping."""
    with place.serving() as other, place.server("P2P") as server, Bare(place, server.address) as bare:
        bare.meet()
        with Threads() as threads:
            threads.start(bare.flood, data(bytes(1000)) * 100, 10_000)
            wait_until(lambda: server.data_count() > 100_000, "it floods")
            began = time.monotonic()
            server.stop(1)
            assert time.monotonic() - began < PROMPT
        assert len(other.peers()) == 1


# --- send() that does not come to its end -------------------------------------------------------------


def _slow_line(place: Place, server: Any) -> Any:
    """A proxy that lets about a megabyte a second through."""
    return FaultyProxy(server.address, bandwidth=1_500_000)


def test_a_send_times_out_mid_frame(place: Place) -> None:
    """A large message is on its way, and fills the window: the next one is not sent, and nothing is torn."""
    body = bytes(range(256)) * 4000
    with place.serving() as server, _slow_line(place, server) as proxy:
        client = place.client("P2P", proxy.address, name="bare", limits=TIGHT)
        with client:
            receipt = client.send(body)
            with pytest.raises(MailboxFull):
                client.send(b"never", timeout=0.05)
            receipt.wait(timeout=PATIENCE)
            client.send(b"after").wait(timeout=PATIENCE)
            assert place.view(server).data_get_all() == [body, b"after"]


def test_a_send_is_cancelled_mid_frame(place: Place) -> None:
    """aio: the task is cancelled while a frame is half written. It has sent all of it, or nothing."""
    if place.front == "threaded":
        pytest.skip("a thread cannot be cancelled; Ctrl-C, which comes near, has tests of its own")
    body = bytes(range(256)) * 4000
    with (
        place.serving() as server,
        _slow_line(place, server) as proxy,
        place.client("P2P", proxy.address, name="bare", limits=TIGHT) as client,
    ):
        receipt = client.send(body)
        waiting: list[Future[Any]] = [client.later("send", b"never") for _ in range(5)]
        wait_until(lambda: proxy.passed["up"] > 10_000, "it is under way")
        assert all(each.cancel() for each in waiting)
        receipt.wait(timeout=PATIENCE)
        client.send(b"after").wait(timeout=PATIENCE)
        assert place.view(server).data_get_all() == [body, b"after"]
