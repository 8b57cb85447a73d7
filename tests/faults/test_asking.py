"""Requests in trouble: more than may wait, given up before they were sent, without a response."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from typing import Any

import msgspec
import pytest

from linkbox import (
    AnswerError,
    ConnectFailed,
    DeadlineExceeded,
    Json,
    Limits,
    Lines,
    MailboxFull,
    PeerLost,
    StateError,
)
from tests.faults.place import AT_ONCE, PATIENCE, Place
from tests.threaded.helpers import Threads, dial, read_all, wait_until

# --- More than may wait -------------------------------------------------------------------------------


def test_more_requests_than_may_wait_wait_for_their_slot(place: Place) -> None:
    """The limit asks of a client: 200 calls at once share 10 slots, and each gets its own answer."""
    with (
        place.server("AR", Json, handler=lambda request: request.data) as server,
        place.client("AR", server.address, Json, keep_alive=True, limits=Limits(asks=10)) as client,
    ):
        answers = Counter[int]()

        def ask(number: int) -> None:
            answers[client.ask(number, timeout=PATIENCE)] += 1

        with Threads() as threads:
            for number in range(200):
                threads.start(ask, number)
        assert answers == Counter(range(200))


def test_gather_of_thousands(place: Place) -> None:
    """3,000 calls from one event loop, or three threads of 1,000: nobody hears of a limit."""
    with (
        place.server("AR", Json, handler=lambda request: request.data) as server,
        place.client("AR", server.address, Json, keep_alive=True) as client,
    ):
        if place.front == "aio":
            calls = [client.later("ask", number) for number in range(3000)]
            assert [call.result(PATIENCE) for call in calls] == list(range(3000))
            return
        found = Counter[int]()

        def ask(thread: int) -> None:
            for number in range(thread * 1000, thread * 1000 + 1000):
                found[client.ask(number)] += 1

        with Threads() as threads:
            for thread in range(3):
                threads.start(ask, thread)
        assert found == Counter(range(3000))


@pytest.mark.parametrize("method", ["ask", "ask_many"])
def test_no_slot_within_the_deadline(place: Place, method: str) -> None:
    """The call names the limit; nothing was sent; the slot is free again later."""
    released = threading.Event()
    handler = place.waiting_for(released, b"late")
    with (
        place.server("AR", handler=handler) as server,
        place.client("AR", server.address, keep_alive=True, limits=Limits(asks=1)) as client,
        Threads() as threads,
    ):
        threads.start(client.ask, b"first", PATIENCE)
        wait_until(lambda: server.statistics().messages_received == 1)
        value = b"second" if method == "ask" else [b"second"]
        with pytest.raises(DeadlineExceeded, match=r"Limits\(asks=1\)"):
            getattr(client, method)(value, timeout=0.05)
        with pytest.raises(MailboxFull, match=r"Limits\(asks=1\)"):
            client.send(b"third")
        released.set()
        assert getattr(client, method)(value, timeout=PATIENCE) == b"late"
        assert server.statistics().messages_received == 2


def test_stop_ends_the_wait_for_a_slot(place: Place) -> None:
    released = threading.Event()
    handler = place.waiting_for(released, b"late")
    with place.server("AR", handler=handler) as server, Threads() as threads:
        client = place.client("AR", server.address, keep_alive=True, limits=Limits(asks=1)).start()
        errors: list[BaseException] = []

        def ask() -> None:
            with pytest.raises((StateError, PeerLost)) as caught:
                client.ask(b"x", timeout=PATIENCE)
            errors.append(caught.value)

        for _ in range(2):
            threads.start(ask)
        wait_until(lambda: server.statistics().messages_received == 1)
        client.stop(0)
        wait_until(lambda: len(errors) == 2, "both calls end")
        released.set()


# --- Given up before they were sent -------------------------------------------------------------------


NOT_SENT = (DeadlineExceeded, ConnectFailed)
"""The second if an attempt to connect has failed meanwhile: then it is the reason."""


def test_what_was_never_sent_is_never_cancelled(place: Place) -> None:
    """While the server is gone, requests are given up: nothing of them is kept, or sent when it is back."""
    seen: list[bytes] = []

    def handle(request: Any) -> Any:
        seen.append(request.data)
        return request.data

    server = place.server("AR", handler=handle).start()
    with place.client("AR", server.address, keep_alive=True, reconnect=AT_ONCE, connect_timeout=60) as client:
        assert client.ask(b"before", timeout=PATIENCE) == b"before"
        server.stop()
        wait_until(lambda: not client.peers(), "the server is gone")
        for number in range(5):
            with pytest.raises(NOT_SENT):
                client.ask(b"lost %d" % number, timeout=0.05)
            with pytest.raises(NOT_SENT):
                client.ask_many([b"lost", b"too"], timeout=0.05)
        again = place.server("AR", handler=handle, address=server.address).start()
        assert client.ask(b"after", timeout=PATIENCE) == b"after"
        assert seen == [b"before", b"after"]
        assert again.statistics().messages_received == 1
        again.stop()


# --- Over a plain framing -----------------------------------------------------------------------------


def _exchange(server: Any, place: Place, said: bytes) -> bytes:
    """What a bare socket gets for that, up to the end of the connection."""
    with place.transport.dial(server.address) as sock:
        sock.sendall(said)
        return read_all(sock)


def test_a_server_that_closes_after_its_answer(place: Place) -> None:
    """keep_alive=False: one connection, one answer, then FIN, also if more was asked."""
    options: dict[str, Any] = {"framing": Lines(), "keep_alive": False}
    with place.server("AR", handler=lambda request: request.data.upper(), **options) as server:
        assert _exchange(server, place, b"one\n") == b"ONE\n"
        assert _exchange(server, place, b"one\ntwo\nthree\n") == b"ONE\n"
        with place.client("AR", server.address, framing=Lines()) as client:
            assert [client.ask(b"a", timeout=PATIENCE) for _ in range(3)] == [b"A"] * 3
        assert server.statistics().messages_received == 5


@pytest.mark.parametrize("keep_alive", [False, True], ids=["", "keep_alive"])
def test_a_server_that_closes_before_it_is_asked(place: Place, keep_alive: bool) -> None:
    """As one in a flood: nothing was sent, so the client connects again, and the handler is called once."""
    asked: list[bytes] = []
    dialled: list[socket.socket] = []

    def handle(request: Any) -> bytes:
        asked.append(request.data)
        return bytes(request.data)

    with place.server("AR", handler=handle) as server, socket.create_server(("127.0.0.1", 0)) as other:

        def connect() -> socket.socket:
            dialled.append(dial(server.address))
            if len(dialled) % 2:
                dialled[-1].close()
                dialled[-1] = socket.create_connection(other.getsockname(), PATIENCE)
                other.accept()[0].close()
                assert dialled[-1].recv(1, socket.MSG_PEEK) == b"", "it has arrived that it is closed"
            return dialled[-1]

        client = place.client("AR", server.address, keep_alive=keep_alive)
        client._operations.options.connect = connect  # It is an option of ClientP2P only.
        with client:
            assert client.ask(b"1", timeout=PATIENCE) == b"1"
            assert client.ask(b"2", timeout=PATIENCE) == b"2"
        assert asked == [b"1", b"2"]
        assert len(dialled) == (2 if keep_alive else 4)


def test_over_linked_the_client_closes(place: Place) -> None:
    with pytest.raises(ValueError, match="plain framings"):
        place.server("AR", keep_alive=False)


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_command_without_an_answer(place: Place, keep_alive: bool) -> None:
    """request.ignore(): nothing is sent, and the next request has its turn."""

    def handle(request: Any) -> Any:
        if request.data == b"command":
            request.ignore()
            with pytest.raises(StateError, match="answered already"):
                request.answer(b"no")
            return None
        return request.data

    options: dict[str, Any] = {"framing": Lines(), "keep_alive": keep_alive}
    with (
        place.server("AR", handler=handle, **options) as server,
        place.transport.dial(server.address) as sock,
    ):
        sock.sendall(b"command\ncommand\nquestion\n")
        if keep_alive:
            assert sock.recv(100) == b"question\n"
        else:
            assert read_all(sock) == b""


def test_over_linked_each_request_has_an_answer(place: Place, may_log_errors: None) -> None:
    def handle(request: Any) -> Any:
        request.ignore()

    with (
        place.server("AR", handler=handle) as server,
        place.client("AR", server.address) as client,
        pytest.raises(AnswerError, match=r"StateError.*each request has a response"),
    ):
        client.ask(b"x", timeout=PATIENCE)


@pytest.mark.parametrize("is_plain", [False, True], ids=["linked", "lines"])
def test_a_handler_that_returns_nothing(
    place: Place, is_plain: bool, may_log_errors: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says so. Over a plain framing, what was answered before arrives, then the connection ends."""
    framing: dict[str, Any] = {"framing": Lines()} if is_plain else {}
    big = b"x" * 8_000_000

    def handle(request: Any) -> Any:
        return big if request.data == b"big" else None

    with place.server("AR", handler=handle, **framing) as server:
        if is_plain:
            assert _exchange(server, place, b"big\nbad\nbig\n") == big + b"\n"
            wait_until(lambda: "call request.ignore()" in caplog.text, "it is logged")
        else:
            with (
                place.client("AR", server.address) as client,
                pytest.raises(AnswerError, match=r"FormatError.*the handler returned None"),
            ):
                client.ask(b"bad", timeout=PATIENCE)
        assert "the handler returned None" in caplog.text


def test_a_handler_that_returns_too_much(
    place: Place, may_log_errors: None, caplog: pytest.LogCaptureFixture
) -> None:
    """JSON grows where a handler returns what it got: the log has one line about it, not a traceback."""
    limits = Limits(message=100_000)
    with (
        place.server("AR", Json, handler=lambda request: request.data, limits=limits) as server,
        place.client("AR", server.address, Json) as client,
        pytest.raises(AnswerError, match=r"TooLarge.*at most 100000 are allowed"),
    ):
        client.ask(msgspec.Raw(b"[1e9" + b",1e9" * 20_000 + b"]"), timeout=PATIENCE)
    lines = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(lines) == 1 and lines[0].exc_info is None
    assert "returned for" in lines[0].message and "at most 100000 are allowed" in lines[0].message


def test_nothing_is_a_value_of_some_formats(place: Place) -> None:
    with (
        place.server("AR", Json, framing=Lines(), handler=lambda request: None) as server,
        place.client("AR", server.address, Json, framing=Lines()) as client,
    ):
        assert client.ask(1, timeout=PATIENCE) is None
