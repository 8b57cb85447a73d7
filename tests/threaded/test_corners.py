"""Corners where two promises meet: stop in a handler, bells hung up twice, views on those who have gone."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from linkbox import (
    ClientAR,
    ClientP2M,
    ClientP2P,
    DeadlineExceeded,
    EndOfData,
    Event,
    EventKind,
    Json,
    Limits,
    LinkError,
    MailboxEmpty,
    PeerLost,
    Request,
    ServerAR,
    ServerP2M,
    ServerP2P,
    Stage,
    StateError,
)
from tests.threaded.helpers import PROMPT, Ear, Relay, Threads, for_ever, free_port, wait_until


def test_stop_inside_a_handler() -> None:
    results: list[bool] = []

    def handler(request: Request[Any]) -> Any:
        if request.data == "stop":
            results.append(server.stop(1))
        return request.data

    server = ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=3).start()
    with ClientAR(server.address, Json, keep_alive=True) as client:
        assert client.ask("x") == "x"
        began = time.monotonic()
        with pytest.raises(PeerLost):
            client.ask("stop", timeout=10)
        assert time.monotonic() - began < PROMPT
        wait_until(lambda: results, "stop returned")
    server.stop()


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_start_and_stop_from_many_threads_at_random(scheme: str, tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/x" if scheme == "unix" else f"tcp://127.0.0.1:{free_port()}"
    server = ServerP2P(address, Json)
    over = time.monotonic() + 1.5

    def churn(call: Any) -> None:
        while time.monotonic() < over:
            call()

    with Threads(20) as threads:
        for _ in range(2):
            threads.start(churn, server.start)
            threads.start(churn, lambda: server.stop(1))
    server.stop()
    with server, ClientP2P(server.address, Json) as client:
        client.send(1).wait(timeout=5)


def test_many_threads_start_one_client() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json) as server:
        client = ClientP2P(server.address, Json)
        with Threads() as threads:
            for _ in range(8):
                threads.start(client.start)
        assert server.statistics().connections_total == 1
        client.send(1).wait(timeout=5)
        client.stop()


def test_a_bell_that_is_hung_up_again_rings_once_per_message() -> None:
    """The callback blocks, messages arrive, it is removed and added again: each still rings once."""
    release, entered = threading.Event(), threading.Event()
    rings: list[Event] = []

    def callback(event: Event) -> None:
        rings.append(event)
        entered.set()
        release.wait(20)

    other = Ear()
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        server.add_callback(callback)
        client.send(0)
        assert entered.wait(5)
        for number in range(1, 10):
            client.send(number).wait(timeout=5)
        server.remove_callback(callback)
        server.add_callback(callback)
        release.set()
        server.add_callback(other, EventKind.END)
        client.end()
        other.wait()
        assert server.data_count() == 10
        assert 10 <= len(rings) <= 11, "the message it was just being told of may ring again, no other"


def test_disconnect_and_end_inside_callbacks() -> None:
    gone = Ear()
    with ServerP2P("tcp://127.0.0.1:0", Json, max_peers=2) as server:
        server.add_callback(gone, EventKind.DISCONNECTED)

        @server.on()
        def judge(event: Event) -> None:
            if server.data_get() == "bad":
                server.disconnect(event.peer, "bad word")
            else:
                server.end(event.peer)

        with ClientP2P(server.address, Json) as first, ClientP2P(server.address, Json) as second:
            first.send("bad")
            second.send("good")
            with pytest.raises(LinkError, match="bad word"):
                first.data_get(5)
            with pytest.raises(EndOfData):
                second.data_get(5)
            gone.wait(2)


def test_asks_with_no_time() -> None:
    executed: list[Any] = []

    def handler(request: Request[Any]) -> Any:
        executed.append(request.data)
        return request.data

    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=handler) as server,
        ClientAR(server.address, Json, keep_alive=True) as client,
    ):
        assert client.ask("first") == "first"
        for timeout in (0, -1):
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                client.ask("late", timeout=timeout)
            assert time.monotonic() - began < PROMPT
        assert client.ask("last", timeout=None) == "last"
    assert executed == ["first", "last"]


def test_answering_after_stop_neither_hangs_nor_raises() -> None:
    server = ServerAR("tcp://127.0.0.1:0", Json).start()
    with ClientAR(server.address, Json) as client:
        client.send("q")
        request = server.data_get(5)
        server.stop(0.2)
        assert request.cancelled()
        request.answer("late")
        with pytest.raises(PeerLost):
            client.data_get(5)


def test_the_requests_of_an_earlier_life_are_not_worked_on_again() -> None:
    """Unanswered at stop(): their askers have been told; a restart must not execute them."""
    executed: list[Any] = []
    release, entered = threading.Event(), threading.Event()

    def handler(request: Request[Any]) -> Any:
        executed.append(request.data)
        entered.set()
        release.wait(20)
        return request.data

    server = ServerAR("tcp://127.0.0.1:0", Json, handler=handler, workers=1).start()
    with ClientAR(server.address, Json, keep_alive=True) as client:
        for number in range(4):
            client.send(number)
        assert entered.wait(5)
        wait_until(lambda: server.data_count() == 3, "the others wait")
        server.stop(0.2)
        failures = 0
        while failures < 4:
            with pytest.raises(PeerLost):
                client.data_get(5)
            failures += 1
        release.set()
        with server:
            assert client.ask(99, timeout=5) == 99
    assert executed == [0, 99]


def test_a_decoder_of_the_user_that_calls_its_own_endpoint() -> None:
    """It must not wait for what only its own end would bring; anything else it may do."""
    outcomes: list[str] = []

    class Meddling:
        name = "meddling"

        def encode(self, value: str) -> bytes:
            return value.encode()

        def decode(self, data: bytes) -> str:
            if os.getpid() and data == b"meddle":
                outcomes.append(str(server.data_count()))
                try:
                    server.data_get(0.1)
                except (StateError, MailboxEmpty) as error:
                    outcomes.append(type(error).__name__)
            return data.decode()

    server = ServerP2P("tcp://127.0.0.1:0", Meddling).start()
    with ClientP2P(server.address, Meddling) as client:
        client.send("meddle")
        client.send("next")
        assert server.data_get(10) == "meddle"
        assert server.data_get(10) == "next"
        assert len(outcomes) == 2
    server.stop()


def test_two_receivers_of_counts_compete_and_both_are_served() -> None:
    got: list[bytes] = []
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        with Threads() as threads:
            for size in (10, 7, 3):
                threads.start(
                    lambda size=size: got.extend(server.data_get_count(size, 20) for _ in range(50))
                )
            for _ in range(20 * 50):
                client.send(b"x")
        assert sorted(map(len, got)) == [3] * 50 + [7] * 50 + [10] * 50
        assert server.data_empty()


def test_callbacks_and_receipts_of_a_client_that_only_pushes() -> None:
    ear = Ear()
    with ServerP2M("tcp://127.0.0.1:0", Json) as server, ClientP2M(server.address, Json) as client:
        client.add_callback(ear, EventKind.CONNECTED, EventKind.DISCONNECTED, EventKind.DELIVERED)
        receipt = client.send("x")
        ear.wait(1, EventKind.DISCONNECTED)
        assert ear.kinds() == [EventKind.CONNECTED, EventKind.DELIVERED, EventKind.DISCONNECTED]
        assert ear.events[1].receipt is receipt
        server.data_get(5)
        assert receipt.stage >= Stage.RECEIVED


def test_a_callback_that_blocks_for_long_bounds_what_waits_for_it() -> None:
    """Pollers take everything meanwhile; the events that wait count against the mailbox."""
    limits = Limits(mailbox_messages=100, window_messages=100)
    release, entered = threading.Event(), threading.Event()

    def block(event: Event) -> None:
        entered.set()
        release.wait(25)

    with (
        ServerP2P("tcp://127.0.0.1:0", Json, limits=limits) as server,
        ClientP2P(server.address, Json, limits=limits) as client,
        Threads() as threads,
    ):
        server.add_callback(block)
        threads.start(lambda: [client.send(number) for number in range(2000)])
        assert entered.wait(5)
        taken: list[int] = []
        with pytest.raises(MailboxEmpty):
            for_ever(lambda: taken.append(server.data_get(0.5)))
        assert len(taken) <= 500
        release.set()
        while len(taken) < 2000:
            taken.append(server.data_get(5))
        assert taken == list(range(2000))


def test_a_view_on_a_peer_that_has_gone_still_shows_what_it_left() -> None:
    """In an END callback the link may be closed already: what the peer left is still its view's."""
    ear = Ear(lambda event: server.link(event.peer).data_get_all())
    with ServerP2P("tcp://127.0.0.1:0", Json, max_peers=3) as server:
        server.add_callback(ear, EventKind.DISCONNECTED)
        for name in "ab":
            with ClientP2P(server.address, Json, name=name) as client:
                client.send(name)
        ear.wait(2)
        assert ear.results == [["a"], ["b"]]


def test_a_session_that_resumes_while_its_messages_wait() -> None:
    """What waits in the mailbox over a drop is neither lost nor sent again."""
    with (
        ServerP2P("tcp://127.0.0.1:0", Json) as server,
        Relay(server.address) as relay,
        ClientP2P(relay.address, Json) as client,
    ):
        for number in range(50):
            client.send(number).wait(timeout=5)
            if number % 10 == 0:
                relay.cut()
        assert server.data_get_all() == list(range(50))
