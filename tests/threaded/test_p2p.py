"""Point to point: sending, places, several peers, receipts, formats, sizes."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import pytest

from linkbox import (
    Bytes,
    ClientP2P,
    DeadlineExceeded,
    DecodeError,
    EndOfData,
    FormatError,
    Json,
    Limits,
    MailboxFull,
    MsgPack,
    PeerLost,
    Refused,
    ServerP2P,
    Stage,
    StateError,
    TooLarge,
    Typed,
)
from tests.threaded.helpers import PROMPT, Threads, for_ever, wait_until


class Point(msgspec.Struct):
    x: int
    y: float = 0.0


def test_both_sides_send_at_any_time_from_any_thread() -> None:
    def send(endpoint: Any, thread: int) -> None:
        for number in range(1000):
            endpoint.send([thread, number])

    def take(endpoint: Any) -> None:
        got = [endpoint.data_get(20) for _ in range(4000)]
        for thread in range(4):
            assert [number for who, number in got if who == thread] == list(range(1000))

    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        server.wait_connected(timeout=5)
        with Threads() as threads:
            for endpoint in (server, client):
                threads.start(take, endpoint)
                for thread in range(4):
                    threads.start(send, endpoint, thread)


def test_a_second_client_is_refused_and_later_let_in() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as first:
        first.send(b"alive").wait(timeout=5)
        began = time.monotonic()
        with pytest.raises(Refused) as caught:
            ClientP2P(server.address, reconnect=None).start()
        assert caught.value.code == "busy"
        assert time.monotonic() - began < PROMPT
        assert server.statistics().refused == 1
        first.end()
        wait_until(lambda: not server.peers())
        with ClientP2P(server.address, reconnect=None) as second:
            second.send(b"in").wait(timeout=5)


def test_a_waiting_client_gets_the_place_when_it_is_free() -> None:
    """Busy is not final: with reconnect set it keeps trying until connect_timeout."""
    with ServerP2P("tcp://127.0.0.1:0") as server:
        first = ClientP2P(server.address).start()
        with Threads() as threads:
            second = ClientP2P(server.address, connect_timeout=15)
            threads.start(second.start)
            wait_until(lambda: server.statistics().refused >= 1)
            first.stop()
        second.send(b"at last").wait(timeout=5)
        second.stop()


def test_busy_until_the_time_is_up() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address):
        client = ClientP2P(server.address, connect_timeout=0.5)
        began = time.monotonic()
        with pytest.raises(Refused) as caught:
            client.start()
        assert caught.value.code == "busy"
        assert time.monotonic() - began < PROMPT
        with pytest.raises(StateError):
            client.send(b"")


def test_several_peers() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json, max_peers=3) as server:
        with pytest.raises(StateError, match="wait_connected"):
            server.send("nobody there")
        clients = [ClientP2P(server.address, Json, name=f"c{number}").start() for number in range(3)]
        server.wait_connected(3, timeout=5)
        with pytest.raises(StateError, match="broadcast"):
            server.send("to whom?")
        peers = {peer.name: peer for peer in server.peers()}
        for name, peer in peers.items():
            assert server.send(name, to=peer).wait(timeout=5) >= Stage.RECEIVED
        for client in clients:
            assert client.data_get(5) == client._operations.options.name
        receipts = server.broadcast("all")
        assert set(receipts) == set(peers.values())
        for receipt in receipts.values():
            assert receipt.wait(timeout=5) >= Stage.RECEIVED
        clients[0].stop()
        wait_until(lambda: len(server.peers()) == 2)
        with pytest.raises(StateError):
            server.send("gone", to=peers["c0"])
        assert set(server.broadcast("rest")) == {peers["c1"], peers["c2"]}
        for client in clients[1:]:
            assert client.data_get_count(2, 5) == ["all", "rest"]
            client.stop()


def test_broadcast_never_waits() -> None:
    limits = Limits(window_messages=3, mailbox_messages=3)
    with (
        ServerP2P("tcp://127.0.0.1:0", max_peers=2, limits=limits) as server,
        ClientP2P(server.address, limits=limits, name="slow") as slow,
        ClientP2P(server.address, name="quick") as quick,
    ):
        server.wait_connected(2, timeout=5)
        refused = []
        for number in range(20):
            receipts = {peer.name: receipt for peer, receipt in server.broadcast(b"x").items()}
            assert receipts["quick"].wait(timeout=5) >= Stage.RECEIVED
            if receipts["slow"].stage is Stage.FAILED:
                refused.append(receipts["slow"])
            assert number or not refused
            assert quick.data_get(5) == b"x", number
        assert len(refused) >= 20 - 6, "three fit its mailbox, three the window"
        with pytest.raises(MailboxFull):
            refused[-1].wait(timeout=1)
        assert slow.data_get_count(3, 5)  # Or stop() would wait for what it cannot deliver.


def test_a_full_window_waits_up_to_the_timeout() -> None:
    limits = Limits(window_bytes=100_000, mailbox_bytes=100_000)
    with (
        ServerP2P("tcp://127.0.0.1:0", limits=limits) as server,
        ClientP2P(server.address, limits=limits) as client,
    ):
        began = time.monotonic()
        with pytest.raises(MailboxFull):
            for_ever(lambda: client.send(b"x" * 10_000, timeout=0.2))
        assert 0.19 < time.monotonic() - began < PROMPT
        with pytest.raises(MailboxFull):
            client.send(b"x" * 10_000, timeout=0)
        with Threads() as threads:
            threads.start(client.send, b"last")
            while server.data_get(5) != b"last":
                pass


def test_all_stages_of_a_receipt() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        receipt = client.send(b"x")
        assert receipt.wait(timeout=5) is Stage.RECEIVED
        assert receipt.wait(Stage.SENT) is Stage.RECEIVED
        with pytest.raises(DeadlineExceeded):
            receipt.wait(Stage.TAKEN, timeout=0.1)
        assert receipt.stage is Stage.RECEIVED and receipt.error is None
        server.data_get(5)
        assert receipt.wait(Stage.TAKEN, timeout=5) is Stage.TAKEN
        assert Stage.QUEUED < Stage.SENT < Stage.RECEIVED < Stage.TAKEN
        assert "TAKEN" in repr(receipt)


def test_taken_means_all_of_it() -> None:
    """A count cuts a message in two: it is taken with its last byte."""
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        receipt = client.send(b"0123456789")
        assert server.data_get_count(9, 5) == b"012345678"
        with pytest.raises(DeadlineExceeded):
            receipt.wait(Stage.TAKEN, timeout=0.1)
        assert server.data_get_count(1) == b"9"
        assert receipt.wait(Stage.TAKEN, timeout=5) is Stage.TAKEN


def test_receipts_waited_for_by_many_threads() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        stages: list[Stage] = []
        receipts = [client.send(b"x") for _ in range(10)]
        with Threads() as threads:
            for receipt in receipts * 3:
                threads.start(lambda receipt=receipt: stages.append(receipt.wait(Stage.TAKEN, 20)))
            wait_until(lambda: server.data_count() == 10)
            assert not stages
            for _ in range(10):
                server.data_get()
        assert stages == [Stage.TAKEN] * 30


def test_a_receipt_fails_when_the_server_sends_its_client_away() -> None:
    with ServerP2P("tcp://127.0.0.1:0", limits=Limits(mailbox_messages=2)) as server:
        with ClientP2P(server.address) as client:
            receipts = [client.send(b"x") for _ in range(10)]
            wait_until(lambda: server.data_count() == 2)
            server.disconnect(server.peers()[0], "enough of you")
            with pytest.raises((PeerLost, Refused), match="enough of you"):
                client.data_get(5)
            with pytest.raises((PeerLost, Refused)):
                receipts[-1].wait(timeout=5)
            with pytest.raises(StateError):
                client.send(b"more")
        assert server.statistics().connections_total == 1  # It does not come back.


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        (Bytes, b"\0\xff", "text"),
        (Json, {"a": [1, None, "ü"]}, object()),
        (Json, None, float("nan")),
        (MsgPack, {"a": b"\0"}, object()),
        (Typed(Point), Point(1, 2.0), Point),
    ],
)
def test_formats_there_and_back_and_what_does_not_fit(format_: Any, good: Any, bad: Any) -> None:
    with ServerP2P("tcp://127.0.0.1:0", format_) as server, ClientP2P(server.address, format_) as client:
        server.wait_connected(timeout=5)
        with pytest.raises(FormatError):
            client.send(bad)
        with pytest.raises(FormatError):
            server.broadcast(bad)
        client.send(good)
        assert server.data_get(5) == good
        server.send(good)
        assert client.data_get(5) == good
        assert server.data_empty() and client.data_empty()


def test_what_cannot_be_decoded_is_rejected_by_name_and_the_stream_goes_on() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Typed(Point)) as server, ClientP2P(server.address, Json) as client:
        receipts = [client.send({"x": number if number % 3 else "no"}) for number in range(300)]
        assert [server.data_get(5).x for _ in range(200)] == [n for n in range(300) if n % 3]
        for number, receipt in enumerate(receipts):
            if number % 3:
                assert receipt.wait(Stage.TAKEN, timeout=5) is Stage.TAKEN
            else:
                with pytest.raises(DecodeError):
                    receipt.wait(timeout=5)
        assert server.statistics().rejected == 100
        assert server.data_empty()


class Slow:
    """A format of the user's own, which blocks on demand and fails in an unusual way."""

    name = "slow"

    def __init__(self) -> None:
        self.gate = threading.Event()

    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, data: bytes) -> str:
        text = data.decode()
        if text == "block":
            assert self.gate.wait(20)
        if text == "fail":
            raise KeyError(text)
        return text


def test_a_slow_decoder_of_the_user_holds_up_nobody_else() -> None:
    slow = Slow()
    with (
        ServerP2P("tcp://127.0.0.1:0", slow, max_peers=2) as server,
        ClientP2P(server.address, Slow) as first,
        ClientP2P(server.address, Slow) as second,
    ):
        server.wait_connected(2, timeout=5)
        first.send("block")
        # The way back, new connections' end and heartbeats are not decoded: they go on.
        assert server.broadcast("hello")
        assert second.data_get(5) == "hello" == first.data_get(5)
        slow.gate.set()
        assert server.data_get(5) == "block"


def test_a_format_of_the_user_that_fails() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Slow) as server, ClientP2P(server.address, Slow) as client:
        bad, good = client.send("fail"), client.send("good")
        with pytest.raises(DecodeError, match="KeyError"):
            bad.wait(timeout=5)
        assert server.data_get(5) == "good"
        assert good.wait(Stage.TAKEN, timeout=5)


def test_too_large_here_and_there() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", limits=Limits(message=1000)) as server,
        ClientP2P(server.address, limits=Limits(message=2000)) as client,
    ):
        server.wait_connected(timeout=5)
        with pytest.raises(TooLarge, match="2000"):
            client.send(b"x" * 2001)
        with pytest.raises(TooLarge, match="1000"):
            client.send(b"x" * 1001)
        assert client.send(b"x" * 1000).wait(timeout=5)
        with pytest.raises(TooLarge):
            server.send(b"x" * 1001)
        assert server.data_get(5) == b"x" * 1000


def test_a_hundred_megabytes_when_the_limit_allows() -> None:
    limits = Limits(message=100 << 20, mailbox_bytes=100 << 20, window_bytes=100 << 20)
    data = bytes(range(256)) * (100 << 12)
    with (
        ServerP2P("tcp://127.0.0.1:0", limits=limits) as server,
        ClientP2P(server.address, limits=limits) as client,
    ):
        receipt = client.send(data)
        assert server.data_get(25) == data
        assert receipt.wait(Stage.TAKEN, timeout=5)


def test_a_hundred_megabytes_through_small_windows() -> None:
    """A message may be larger than the windows: they count what waits, and nothing waits."""
    with (
        ServerP2P("tcp://127.0.0.1:0", limits=Limits(message=50 << 20, mailbox_bytes=1 << 20)) as server,
        ClientP2P(server.address, limits=Limits(message=50 << 20, window_bytes=1 << 20)) as client,
    ):
        data = b"0123456789" * (5 << 20)
        client.send(data)
        assert server.data_get(25) == data


def test_wait_connected() -> None:
    with ServerP2P("tcp://127.0.0.1:0", max_peers=3) as server:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="0 of 1"):
            server.wait_connected(timeout=0.1)
        assert time.monotonic() - began < PROMPT
        with Threads() as threads:
            threads.start(server.wait_connected, 2, 20)
            with ClientP2P(server.address), ClientP2P(server.address):
                server.wait_connected(2, 5)
                server.wait_connected(0)
                with pytest.raises(DeadlineExceeded, match="2 of 3"):
                    server.wait_connected(3, 0.05)


def test_sending_after_the_peer_has_gone_is_an_error_that_says_so() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        with ClientP2P(server.address) as client:
            server.wait_connected(timeout=5)
        wait_until(lambda: not server.peers())
        with pytest.raises(StateError):
            server.send(b"x")
        with pytest.raises(StateError):
            client.send(b"x")
        with pytest.raises(EndOfData):
            client.data_get()


def test_a_send_waiting_for_room_learns_of_the_end() -> None:
    limits = Limits(window_messages=5, mailbox_messages=5)
    errors: list[BaseException] = []
    with (
        ServerP2P("tcp://127.0.0.1:0", limits=limits) as server,
        ClientP2P(server.address, limits=limits) as client,
    ):

        def send() -> None:
            try:
                while True:
                    client.send(b"x")
            except StateError as error:
                errors.append(error)

        with Threads() as threads:
            threads.start(send)
            wait_until(lambda: server.data_count() == 5)
            client.end()
        wait_until(lambda: errors)
        server.data_get_all()
