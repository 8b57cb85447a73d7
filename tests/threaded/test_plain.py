"""Plain framings with bare sockets and with nc: whatever has a socket can talk to us."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from linkbox import (
    ClientAR,
    ClientP2M,
    ClientP2P,
    DeadlineExceeded,
    Delimited,
    EndOfData,
    EventKind,
    FixedSize,
    FormatError,
    Json,
    LengthPrefixed,
    Limits,
    Lines,
    PeerLost,
    Raw,
    ServerAR,
    ServerP2M,
    ServerP2P,
    Stage,
    StateError,
    TooLarge,
)
from tests.threaded.helpers import Ear, Threads, dial, read_all, wait_until


@pytest.mark.parametrize(
    ("framing", "wire", "messages"),
    [
        (Lines, b"one\ntwo\r\n\nlast", [b"one", b"two", b"", b"last"]),
        (Delimited(b"||"), b"one||two|three||", [b"one", b"two|three"]),
        (LengthPrefixed(2), b"\0\3one\0\0\0\1x", [b"one", b"", b"x"]),
        (LengthPrefixed(4, "little"), b"\3\0\0\0one", [b"one"]),
        (FixedSize(3), b"onetwo", [b"one", b"two"]),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_a_bare_socket_sends(framing: Any, wire: bytes, messages: list[bytes], step: int) -> None:
    ear = Ear()
    with ServerP2P("tcp://127.0.0.1:0", framing=framing, half_close=0) as server:
        server.add_callback(ear, EventKind.DATA, EventKind.CONNECTED, EventKind.END, EventKind.DISCONNECTED)
        with dial(server.address) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(wire), step):
                sock.sendall(wire[at : at + step])
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b""
        ear.wait(1, EventKind.DISCONNECTED)
        assert server.data_get_all() == messages
        data = [EventKind.DATA] * len(messages)
        assert ear.kinds() == [EventKind.CONNECTED, *data, EventKind.END, EventKind.DISCONNECTED]


def test_a_bare_socket_listens() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json, framing=Lines) as server, dial(server.address) as sock:
        server.wait_connected(timeout=5)
        receipt = server.send({"a": [1, 2]})
        assert receipt.wait(timeout=5) is Stage.SENT
        with pytest.raises(ValueError, match="acknowledgements"):
            receipt.wait(Stage.RECEIVED, timeout=1)
        server.send("ü")
        server.end()
        assert read_all(sock) == '{"a":[1,2]}\n"ü"\n'.encode()


def test_our_client_to_a_bare_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ("127.0.0.1", listener.getsockname()[1])
        with ClientP2P(address, framing=Delimited(b"\r\n")) as client:
            peer, _ = listener.accept()
            with peer:
                client.send(b"hello")
                assert peer.recv(100) == b"hello\r\n"
                peer.sendall(b"answer\r\nrest")
                assert client.data_get(5) == b"answer"
                peer.shutdown(socket.SHUT_WR)
                assert list(client) == [b"rest"]
                assert peer.recv(100) == b""


def test_a_bare_server_that_vanishes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ("127.0.0.1", listener.getsockname()[1])
        with ClientP2P(address, framing=Lines) as client:
            peer, _ = listener.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            with pytest.raises(PeerLost):
                client.data_get(5)


@pytest.mark.skipif(shutil.which("nc") is None, reason="there is no nc")
def test_nc() -> None:
    with ServerP2M("tcp://127.0.0.1:0", framing=Lines) as server:
        host, port = server.address.removeprefix("tcp://").split(":")
        subprocess.run(["nc", "-N", host, port], input=b"hello\nworld\n", timeout=10, check=False)
        assert server.data_get(5) == b"hello"
        assert server.data_get(5) == b"world"


@pytest.mark.skipif(shutil.which("nc") is None, reason="there is no nc")
def test_nc_gets_an_answer_after_it_has_closed_its_half() -> None:
    with ServerP2P("tcp://127.0.0.1:0", framing=Lines) as server:
        host, port = server.address.removeprefix("tcp://").split(":")
        command = ["nc", "-N", host, port]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nc:
            assert nc.stdin is not None and nc.stdout is not None
            nc.stdin.write(b"hello\n")
            nc.stdin.close()
            peer = server.message_get(5).peer
            assert peer is not None
            view = server.link(peer)
            with pytest.raises(EndOfData):
                view.data_get(5)  # It has closed its half.
            view.send(b"answer")
            view.end()
            assert nc.stdout.read() == b"answer\n"


@pytest.mark.skipif(shutil.which("nc") is None, reason="there is no nc")
def test_nc_that_listens_and_answers() -> None:
    with ServerAR("tcp://127.0.0.1:0", framing=Lines, handler=lambda request: request.data.upper()) as server:
        host, port = server.address.removeprefix("tcp://").split(":")
        done = subprocess.run(
            ["nc", "-N", host, port], input=b"a\nb\n", capture_output=True, timeout=10, check=False
        )
        assert done.stdout == b"A\nB\n"


def test_raw_has_no_borders_and_ends_with_fin() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", framing=Raw) as server,
        dial(server.address) as sock,
    ):
        view = None
        sock.sendall(b"x" * 100_000)
        assert server.data_get_count(100_000, 5) == b"x" * 100_000
        server.wait_connected(timeout=5)
        view = server.link(server.peers()[0])
        view.send(b"there")
        assert sock.recv(100) == b"there"
        sock.shutdown(socket.SHUT_WR)
        with pytest.raises(EndOfData):
            view.data_get(5)


def test_ask_over_raw_ends_at_fin() -> None:
    with ServerAR("tcp://127.0.0.1:0", framing=Raw, handler=lambda request: request.data[::-1]) as server:
        with dial(server.address) as sock:
            for piece in (b"ab", b"cd", b"ef"):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"fedcba"
        with ClientAR(server.address, framing=Raw) as client:
            data = bytes(range(256)) * 4000
            assert client.ask(data) == data[::-1]
            with pytest.raises(FormatError):
                client.ask(b"")


@pytest.mark.parametrize("framing", [Lines(), Delimited(b"\0"), LengthPrefixed(4), FixedSize(4)])
@pytest.mark.parametrize("keep_alive", [False, True])
def test_ask_over_plain_framings(framing: Any, keep_alive: bool) -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", framing=framing, handler=lambda request: request.data[::-1]) as server,
        ClientAR(server.address, framing=framing, keep_alive=keep_alive) as client,
    ):
        for number in range(20):
            assert client.ask(b"a%03d" % number) == (b"a%03d" % number)[::-1]
        with Threads() as threads:

            def ask(thread: int) -> None:
                for number in range(10):
                    assert (
                        client.ask(b"%02d%02d" % (thread, number)) == (b"%02d%02d" % (thread, number))[::-1]
                    )

            for thread in range(8):
                threads.start(ask, thread)
        with pytest.raises(StateError):
            client.ask_many([b"aaaa"])


def test_a_timeout_over_a_plain_framing_closes_the_connection() -> None:
    """Nothing tells a late answer apart: the next ask must not get it."""
    release = threading.Event()

    def handler(request: Any) -> Any:
        if request.data == b"slow":
            release.wait(10)
        return request.data

    with (
        ServerAR("tcp://127.0.0.1:0", framing=Lines, handler=handler) as server,
        ClientAR(server.address, framing=Lines, keep_alive=True) as client,
    ):
        with pytest.raises(DeadlineExceeded):
            client.ask(b"slow", timeout=0.2)
        release.set()
        for number in range(20):
            assert client.ask(b"%d" % number) == b"%d" % number


def test_pipelined_asks_over_lines_are_answered_in_order() -> None:
    with (
        ServerAR("tcp://127.0.0.1:0", framing=Lines, handler=lambda request: request.data) as server,
        dial(server.address) as sock,
    ):
        sock.sendall(b"".join(b"%d\n" % number for number in range(200)))
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"".join(b"%d\n" % number for number in range(200))


def test_a_failed_ask_over_a_plain_framing_closes(may_log_errors: None) -> None:
    def handler(request: Any) -> Any:
        raise ValueError(request.data)

    with (
        ServerAR("tcp://127.0.0.1:0", framing=Lines, handler=handler) as server,
        ClientAR(server.address, framing=Lines) as client,
        pytest.raises(PeerLost),
    ):
        client.ask(b"x", timeout=5)


def test_p2m_over_lines_and_what_does_not_fit() -> None:
    with ServerP2M("tcp://127.0.0.1:0", Json, framing=Lines) as server:
        with ClientP2M(server.address, Json, framing=Lines) as client:
            assert client.send({"text": "two\nlines"}).stage is Stage.SENT
            assert server.data_get(5) == {"text": "two\nlines"}
            assert client.send_many(range(10_000)) == 10_000
            assert [server.data_get(5) for _ in range(10_000)] == list(range(10_000))
        with ClientP2M(server.address, framing=Lines) as client, pytest.raises(FormatError):
            client.send(b"two\nlines")
        with ClientP2M(server.address, framing=FixedSize(3)) as client, pytest.raises(FormatError):
            client.send(b"four")


def test_back_pressure_over_a_plain_framing() -> None:
    """The mailbox is full: the socket is not read any more, and nothing is lost."""
    limits = Limits(mailbox_messages=50, window_messages=100_000)
    with (
        ServerP2P("tcp://127.0.0.1:0", framing=Lines, limits=limits) as server,
        dial(server.address) as sock,
        Threads() as threads,
    ):
        count = 20_000

        def send() -> None:
            for number in range(count):
                sock.sendall(b"%d %s\n" % (number, b"x" * 1000))

        threads.start(send)
        wait_until(lambda: server.data_count() >= 50 * 1000)
        threading.Event().wait(0.2)  # Nothing tells when no more will come.
        assert server.data_count() < 2_000_000
        for number in range(count):
            assert server.data_get(5).split()[0] == b"%d" % number


def test_too_long_a_line_ends_that_connection_only() -> None:
    ear = Ear()
    with ServerP2M("tcp://127.0.0.1:0", framing=Lines, limits=Limits(message=100)) as server:
        server.add_callback(ear, EventKind.ERROR, EventKind.DISCONNECTED)
        with dial(server.address) as good, dial(server.address) as bad:
            bad.sendall(b"fine\n" + b"x" * 1000)
            ear.wait(1, EventKind.DISCONNECTED)
            assert isinstance(ear.events[0].error, TooLarge)
            good.sendall(b"still here\n")
            assert server.data_get(5) == b"fine"
            assert server.data_get(5) == b"still here"


def test_what_cannot_be_decoded_over_lines() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json, framing=Lines) as server, dial(server.address) as sock:
        sock.sendall(b'1\nno json\n"two"\n')
        assert server.data_get_count(2, 5) == [1, "two"]
        assert server.statistics().rejected == 1


def test_a_second_connection_to_a_full_plain_server_is_closed() -> None:
    with ServerP2P("tcp://127.0.0.1:0", framing=Lines) as server, dial(server.address) as first:
        server.wait_connected(timeout=5)
        with dial(server.address) as second:
            try:
                assert second.recv(10) == b""
            except ConnectionResetError:
                pass
        first.sendall(b"mine\n")
        assert server.data_get(5) == b"mine"


@pytest.mark.parametrize("name", ["gps-log", "products"])
def test_recorded_data_arrives_whole_through_lines(name: str, tmp_path: Path) -> None:
    """A recording is replayed line by line, as a device would, and arrives equal."""
    if name == "gps-log":
        lines = [b"$GPRMC,%06d,A,5230.%04d,N,01324.%04d,E*%02X" % (n, n, n, n % 256) for n in range(5000)]
    else:
        lines = [json.dumps({"id": n, "name": f"Gerät {n}", "price": n / 7}).encode() for n in range(5000)]
    with ServerP2M("tcp://127.0.0.1:0", framing=Lines) as server, dial(server.address) as sock:
        for line in lines:
            sock.sendall(line + b"\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert [server.data_get(5) for _ in lines] == lines


def test_a_client_names_the_second_of_two_addresses() -> None:
    with ServerP2P("tcp://127.0.0.1:0", framing=Lines()) as server:
        nobody = "tcp://127.0.0.1:1"
        with ClientP2P([nobody, server.address], framing=Lines()) as client:
            client.send(b"hello")
            assert server.data_get(10) == b"hello"
            assert [peer.address for peer in client.peers()] == [server.address]
