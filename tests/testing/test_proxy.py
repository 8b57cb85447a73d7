"""The proxy that misbehaves: each fault does what it says, and linkbox lives through it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linkbox import (
    Backoff,
    ClientAR,
    ClientP2P,
    EventKind,
    Json,
    Limits,
    LinkError,
    PeerLost,
    ServerAR,
    ServerP2P,
    Stage,
    StateError,
    aio,
)
from linkbox.core.wire import frames
from linkbox.core.wire.decoder import Decoder
from linkbox.testing import Faults, FaultyProxy
from linkbox.testing.acks import AckEater
from tests.threaded.helpers import PROMPT, Ear, dial, wait_until

NOW = Backoff(initial=0.01, maximum=0.05)


@pytest.fixture
def sink() -> Iterator[socket.socket]:
    """A bare listener: what passes can be read from whoever it accepts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def through(proxy: FaultyProxy, sink: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection through the proxy."""
    before = proxy.connections
    near = dial(proxy.address)
    far, _ = sink.accept()
    far.settimeout(10)
    wait_until(lambda: proxy.connections > before, "the proxy has both ends")
    return near, far


def read_until_reset(sock: socket.socket) -> bytes:
    found = b""
    try:
        while data := sock.recv(100):
            found += data
    except ConnectionResetError:
        return found
    raise AssertionError(f"it was closed in order, after {found!r}")


def test_without_faults_everything_passes(sink: socket.socket) -> None:
    body = os.urandom(300_000)
    with FaultyProxy(sink.getsockname()) as proxy:
        near, far = through(proxy, sink)
        near.sendall(body)
        near.shutdown(socket.SHUT_WR)
        found = b""
        while data := far.recv(65536):
            found += data
        assert found == body
        far.sendall(b"and back")
        assert near.recv(100) == b"and back"
        far.close()
        assert near.recv(100) == b"", "FIN passes too"
        near.close()
        assert proxy.connections == 1
        assert proxy.passed == {"up": len(body), "down": 8}


def test_latency_is_paid_once_each_way_and_keeps_the_order(sink: socket.socket) -> None:
    with FaultyProxy(sink.getsockname(), latency=0.1, jitter=0.05, seed=1) as proxy:
        near, far = through(proxy, sink)
        start = time.monotonic()
        for number in range(20):
            near.sendall(b"%02d" % number)
        found = b""
        while len(found) < 40:
            found += far.recv(100)
        assert time.monotonic() - start >= 0.1
        assert found == b"".join(b"%02d" % number for number in range(20))
        near.close()
        far.close()


def test_bandwidth_is_a_bound(sink: socket.socket) -> None:
    with FaultyProxy(sink.getsockname(), bandwidth=200_000) as proxy:
        near, far = through(proxy, sink)
        start = time.monotonic()
        near.sendall(bytes(60_000))
        count = 0
        while count < 60_000:
            count += len(far.recv(65536))
        assert time.monotonic() - start >= 0.25
        near.close()
        far.close()


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_it_cuts_after_so_many_bytes(sink: socket.socket, cut: int) -> None:
    with FaultyProxy(sink.getsockname()) as proxy:
        proxy.change("up", cut_after=cut)
        near, far = through(proxy, sink)
        near.sendall(bytes(200))
        assert len(read_until_reset(far)) == cut
        assert proxy.passed["up"] == cut
        near.close()
        far.close()


def test_cut_after_nothing_is_cut_at_once(sink: socket.socket) -> None:
    """So early that even connecting may fail."""
    with FaultyProxy(sink.getsockname(), cut_after=0) as proxy:
        with contextlib.suppress(ConnectionError):
            near = dial(proxy.address)
            assert read_until_reset(near) == b""
            near.close()
        wait_until(lambda: proxy.connections == 1, "it was let in")
        assert proxy.passed == {"up": 0, "down": 0}


def test_a_black_hole_swallows_and_a_hold_only_keeps(sink: socket.socket) -> None:
    with FaultyProxy(sink.getsockname()) as proxy:
        near, far = through(proxy, sink)
        proxy.change("up", hold=True)
        near.sendall(b"kept")
        far.settimeout(0.05)
        with pytest.raises(TimeoutError):
            far.recv(10)
        proxy.change(hold=False)
        far.settimeout(10)
        assert far.recv(10) == b"kept"
        proxy.change(black_hole=True)
        near.sendall(b"lost")
        far.settimeout(0.05)
        with pytest.raises(TimeoutError):
            far.recv(10)
        proxy.heal()
        near.sendall(b"seen")
        far.settimeout(10)
        assert far.recv(10) == b"seen"
        near.close()
        far.close()


def test_cutting_resets_or_closes(sink: socket.socket) -> None:
    with FaultyProxy(sink.getsockname()) as proxy:
        near, far = through(proxy, sink)
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            far.recv(1)
        assert proxy.cut() == 0
        near.close()
        far.close()
        near, far = through(proxy, sink)
        assert proxy.cut(reset=False) == 1
        assert far.recv(1) == b""
        near.close()
        far.close()


def test_a_target_that_is_not_there_is_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        gone = probe.getsockname()
    with FaultyProxy(gone) as proxy, pytest.raises(LinkError):
        ClientP2P(proxy.address, connect_timeout=0.2).start()


def test_wrong_use_is_named(tmp_path: Path) -> None:
    for wrong in ({"latency": -1}, {"bandwidth": 0}, {"slice": 0}, {"cut_after": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Faults(**wrong)  # type: ignore[arg-type]
    proxy = FaultyProxy("tcp://127.0.0.1:1")
    with pytest.raises(StateError, match="not started"):
        proxy.cut()
    proxy.change(latency=0.5)
    assert proxy.faults("up").latency == 0.5
    with proxy, pytest.raises(StateError, match="already"):
        proxy.start()
    with pytest.raises(OSError, match="bind"):
        FaultyProxy("tcp://127.0.0.1:1", "tcp://192.0.2.1:1").start()
    proxy.stop()


def test_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    with (
        ServerP2P(f"unix://{tmp_path}/s") as server,
        FaultyProxy(server.address, f"unix://{tmp_path}/p", slice=1) as proxy,
        ClientP2P(proxy.address) as client,
    ):
        client.send(b"byte by byte")
        assert server.data_get(10) == b"byte by byte"


# --- acknowledgements -----------------------------------------------------------------------------


def stream() -> tuple[bytes, bytes]:
    """A stream with acknowledgements, and the same without them."""
    ack = frames.encode_ack(1, 2, 3, 4)
    parts = [frames.preface(), frames.frame(frames.DATA, b"one"), ack, ack, frames.frame(frames.DATA), ack]
    return b"".join(parts), b"".join(part for part in parts if part != ack)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 1000])
def test_only_acknowledgements_are_eaten_however_they_are_cut(size: int) -> None:
    whole, expected = stream()
    for eats, wanted in ((True, expected), (False, whole)):
        eater = AckEater()
        assert (
            b"".join(eater.feed(whole[at : at + size], eats) for at in range(0, len(whole), size)) == wanted
        )


def test_eating_may_begin_anywhere() -> None:
    whole, _ = stream()
    for begin in range(len(whole) + 1):
        eater = AckEater()
        passed = eater.feed(whole[:begin], False) + eater.feed(whole[begin:], True)
        assert passed.startswith(whole[:begin])
        decoder = Decoder()
        assert len(decoder.receive(passed[8:])) >= 2
        assert decoder.error is None and not decoder.buffered


def test_what_is_not_ours_passes() -> None:
    eater = AckEater()
    assert eater.feed(b"GET", True) + eater.feed(b" / HTTP/1.1\r\n\r\n", True) == b"GET / HTTP/1.1\r\n\r\n"


def test_a_message_counts_as_received_only_when_an_acknowledgement_got_through() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", Json) as server,
        FaultyProxy(server.address) as proxy,
        ClientP2P(proxy.address, Json, reconnect=NOW) as client,
    ):
        client.send("first").wait(timeout=5)
        proxy.change("down", eat_acks=True)
        receipt = client.send("second")
        assert server.data_get_count(2, 5) == ["first", "second"]
        assert receipt.stage is Stage.SENT
        proxy.heal()
        proxy.cut()  # the resume says what had arrived, and nothing comes twice
        assert receipt.wait(Stage.TAKEN, 10) is Stage.TAKEN
        client.send("third")
        assert server.data_get(5) == "third"


# --- linkbox through it ---------------------------------------------------------------------------


def conversation(server: Any, client: Any, count: int) -> None:
    for number in range(count):
        client.send(number)
        server.send(-number)
    assert [server.data_get(15) for _ in range(count)] == list(range(count))
    assert [client.data_get(15) for _ in range(count)] == [-number for number in range(count)]


@pytest.mark.parametrize(
    "faults",
    [
        {"slice": 1},
        {"slice": 3, "jitter": 0.002},
        {"latency": 0.02, "jitter": 0.01, "seed": 5},
        {"bandwidth": 300_000},
    ],
)
def test_a_conversation_through_a_bad_network(faults: dict[str, Any]) -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", Json) as server,
        FaultyProxy(server.address, **faults) as proxy,
        ClientP2P(proxy.address, Json) as client,
    ):
        conversation(server, client, 100)
        assert client.stop(10)


@pytest.mark.parametrize("way", ["up", "down"])
def test_cut_at_every_byte_of_the_handshake_and_of_the_first_frames(way: Any) -> None:
    """Each connection lives one byte longer than the one before; nothing is lost, doubled or reordered."""
    with ServerP2P("tcp://127.0.0.1:0", Json, limits=Limits(mailbox_messages=1000)) as server:
        for cut in [*range(0, 420, 3), *range(419, 500)]:
            with FaultyProxy(server.address) as proxy:
                proxy.change(way, cut_after=cut)
                client = ClientP2P(proxy.address, Json, reconnect=NOW)
                client.start(wait=False)
                wait_until(lambda proxy=proxy: proxy.connections >= 1, "it tries")
                wait_until(
                    lambda proxy=proxy, client=client: client.peers() or proxy.connections >= 2, "cut, or up"
                )
                proxy.heal()
                client.wait_connected(timeout=10)
                for number in range(3):
                    client.send([cut, number])
                assert [server.data_get(10) for _ in range(3)] == [[cut, number] for number in range(3)]
                assert client.stop(10)
            assert server.data_empty()


def test_a_pulled_cable_is_noticed_on_both_ends() -> None:
    ear = Ear()
    limits = Limits(heartbeat=0.3, peer_timeout=0.5)
    with ServerP2P("tcp://127.0.0.1:0", Json, limits=limits) as server:
        server.add_callback(ear, EventKind.DISCONNECTED)
        with FaultyProxy(server.address) as proxy:
            client = ClientP2P(proxy.address, Json, reconnect=None, limits=limits).start()
            start = time.monotonic()
            proxy.change(black_hole=True)
            with pytest.raises(PeerLost):
                client.data_get(10)
            ear.wait(kind=EventKind.DISCONNECTED)
            assert time.monotonic() - start < PROMPT
            client.stop(1)


def test_a_replayed_connection_changes_nothing() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", Json) as server,
        FaultyProxy(server.address) as proxy,
        ClientP2P(proxy.address, Json, reconnect=NOW) as client,
    ):
        client.send("once").wait(timeout=5)
        proxy.cut()
        client.send("twice?").wait(timeout=10)
        proxy.replay(0)
        client.send("no").wait(timeout=10)
        assert server.data_get_all() == ["once", "twice?", "no"]


def test_asks_are_answered_or_fail_and_are_never_done_twice() -> None:
    done: list[int] = []

    def work(request: Any) -> int:
        done.append(request.data)
        return int(request.data)

    with (
        ServerAR("tcp://127.0.0.1:0", Json, handler=work) as server,
        FaultyProxy(server.address) as proxy,
        ClientAR(proxy.address, Json, keep_alive=True, reconnect=NOW) as client,
    ):
        for number in range(100):
            if number % 10 == 5:
                proxy.cut()
            assert client.ask(number, 10) == number
    assert done == list(range(100))


def test_asyncio_goes_through_it_too() -> None:
    import asyncio

    async def main(address: str, server: Any) -> None:
        async with aio.ClientP2P(address, Json, reconnect=NOW) as client:
            await client.send("from the loop")
            await server.data_get(5)

    async def both() -> None:
        async with aio.ServerP2P("tcp://127.0.0.1:0", Json) as server:
            proxy = await asyncio.to_thread(FaultyProxy(server.address, slice=2).start)
            await main(proxy.address, server)
            await asyncio.to_thread(proxy.stop)

    asyncio.run(both())


def test_a_thread_that_cuts_while_another_stops_it() -> None:
    """It gets the `StateError` of a proxy that is not started, and nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        proxy = FaultyProxy(target.getsockname()).start()
        proxy._call(proxy._end.set)
        assert proxy._thread is not None
        proxy._thread.join(10)
        with pytest.raises(StateError, match="was stopped"):
            proxy.cut()
        proxy._thread = None


def test_it_stops_while_it_connects(caplog: pytest.LogCaptureFixture) -> None:
    """The queue of the target is full: nothing is left, and asyncio has nothing to complain of."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        with FaultyProxy(f"tcp://127.0.0.1:{full.getsockname()[1]}") as proxy:
            stack.enter_context(dial(proxy.address))
            wait_until(lambda: proxy._tasks, "it connects")
    assert [record for record in caplog.records if record.name == "asyncio"] == []
