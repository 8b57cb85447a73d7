"""Devices, proxies and other programs at a server with a plain framing, or of one that is behind a proxy."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Any

import pytest

from linkbox import Dialogue, EventKind, Limits, Lines, PeerLost, Text
from tests.faults.bare import Bare
from tests.faults.place import PATIENCE, Place
from tests.faults.proxies import from_proxy
from tests.threaded.helpers import Ear, dial, read_all, wait_until

LINES: dict[str, Any] = {"framing": Lines()}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
VERSION_1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
VERSION_2 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 192, 0, 2, 1]) + b"\x12\x67\x01\xbb"
FOR_IPV6 = (
    SIGNATURE + b"\x21\x21\x00\x24" + ipaddress.ip_address("2001:db8::7").packed * 2 + b"\x12\x67\x01\xbb"
)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
NAMES = [
    (VERSION_1, "203.0.113.7:4711"),
    (VERSION_2, "203.0.113.7:4711"),
    (FOR_IPV6, "[2001:db8::7]:4711"),
]


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """That many bytes, or fewer if the connection ends."""
    received = bytearray()
    while len(received) < count and (data := sock.recv(1 << 20)):
        received += data
    return bytes(received)


# --- Proxies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("header", "client"), NAMES, ids=["v1", "v2", "v2-ipv6"])
def test_a_proxy_names_the_client(place: Place, header: bytes, client: str) -> None:
    """The header may come in pieces, and together with the first message."""
    asked: list[Any] = []

    def accept(info: Any) -> bool:
        asked.append(info.address)
        return True

    with place.server("P2M", framing=Lines(), proxy_protocol=True, accept=accept) as server:
        for step in (1, 4096):
            with from_proxy(place, server.address, header, step) as sock:
                sock.sendall(b"hello\n")
                message = server.message_get(PATIENCE)
                assert message.data == b"hello"
                assert message.peer.address == f"{place.transport.name}://{client}"
        assert asked == [f"{place.transport.name}://{client}"] * 2


def test_a_proxy_before_a_server_of_linkbox(place: Place) -> None:
    with (
        place.server("P2P", proxy_protocol=["127.0.0.0/8", "::1"]) as server,
        Bare(place, server.address, from_proxy(place, server.address, VERSION_2)) as bare,
    ):
        bare.meet()
        assert place.peer(server).address == f"{place.transport.name}://203.0.113.7:4711"


def test_a_proxy_that_names_no_client(place: Place) -> None:
    """Such as for its own health checks: the address is that of the connection."""
    for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
        with (
            place.server("P2M", framing=Lines(), proxy_protocol=True) as server,
            from_proxy(place, server.address, header) as sock,
        ):
            sock.sendall(b"hello\n")
            host, port = sock.getsockname()
            assert server.message_get(PATIENCE).peer.address == f"{place.transport.name}://{host}:{port}"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"hello, no header here\n", "does not begin with a PROXY protocol header"),
        (b"PROXY TCP4 nonsense\r\n", "is malformed"),
        (b"PROXY", "was closed before its PROXY protocol header was complete"),
    ],
)
def test_a_connection_without_a_proxy_header(
    place: Place, said: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with place.server("P2M", framing=Lines(), proxy_protocol=True) as server:
        with dial(server.address) as sock:
            sock.sendall(said)
            with contextlib.suppress(OSError):  # It may be closed already, and some of this not read.
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock) == b""
        wait_until(lambda: server.statistics().refused == 1)
        wait_until(lambda: reason in caplog.text, "it is in the log")
        with from_proxy(place, server.address, VERSION_1) as sock:
            sock.sendall(b"good\n")
            assert server.data_get(PATIENCE) == b"good"


def test_a_host_that_is_no_proxy(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with place.server("P2M", framing=Lines(), proxy_protocol=["10.0.0.0/8"]) as server:
        with dial(server.address) as sock:
            Bare(place, server.address, sock).say(VERSION_1).ended()
        wait_until(lambda: "is not one of the proxies" in caplog.text)
        assert server.statistics().refused == 1


def test_a_proxy_header_that_does_not_come(place: Place) -> None:
    with place.server("P2M", framing=Lines(), proxy_protocol=True, limits=Limits(handshake=0.3)) as server:
        for said in (b"", VERSION_2[:20]):
            with dial(server.address) as sock:
                assert Bare(place, server.address, sock).say(said).ended() < PATIENCE
        assert server.statistics().refused == 2


def test_too_many_connections_wait_for_a_proxy_header(place: Place) -> None:
    """The oldest makes room for the newest."""
    with place.server("P2M", framing=Lines(), proxy_protocol=True, limits=Limits(unwelcomed=2)) as server:
        socks = []
        for _ in range(3):
            socks.append(dial(server.address))
            socks[-1].sendall(VERSION_1[:10])
        Bare(place, server.address, socks[0]).ended()
        assert server.statistics().refused == 1
        with from_proxy(place, server.address, VERSION_1) as sock:
            sock.sendall(b"hello\n")
            assert server.data_get(PATIENCE) == b"hello"
        for sock in socks:
            sock.close()


def test_a_server_stops_while_a_proxy_header_is_missing(place: Place) -> None:
    server = place.server("P2M", framing=Lines(), proxy_protocol=True).start()
    with dial(server.address) as sock:
        sock.sendall(VERSION_1[:10])
        assert server.stop()
        Bare(place, server.address, sock).ended()


def test_a_proxy_header_that_nobody_expects(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with (
        place.server("P2M", framing=Lines()) as server,
        place.transport.dial(server.address) as sock,
    ):
        sock.sendall(VERSION_1 + b"hello\n")
        assert [server.data_get(PATIENCE) for _ in range(2)] == [VERSION_1[:-2], b"hello"]
        wait_until(lambda: "use proxy_protocol=True" in caplog.text)


def test_options_of_proxies_that_cannot_be(place: Place) -> None:
    for wrong in ("10.0.0.0/8", 1, [1]):
        with pytest.raises(TypeError, match="a list of networks is needed"):
            place.server("P2M", proxy_protocol=wrong)
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        place.server("AR", proxy_protocol=["10.0.0.1/8"])


# --- Devices and programs ----------------------------------------------------------------------------------


def test_a_program_that_closes_its_half_gets_its_answer(place: Place) -> None:
    with place.server("P2P", Text, **LINES) as server, place.transport.dial(server.address) as sock:
        ear = Ear()
        server.add_callback(ear, EventKind.END)
        sock.sendall(b"hello\n")
        sock.shutdown(socket.SHUT_WR)
        message = server.message_get(PATIENCE)
        ear.wait(1, EventKind.END)
        server.send(message.data.upper(), to=message.peer)
        server.end(to=message.peer)
        assert read_all(sock) == b"HELLO\n"


def test_a_device_that_lost_its_power_comes_back(place: Place) -> None:
    with place.server("P2P", **LINES, newest_wins=True) as server:
        ear = Ear()
        server.add_callback(ear, EventKind.DISCONNECTED)
        lives: list[socket.socket] = []
        for number in range(3):  # None of them is ever closed.
            lives.append(place.transport.dial(server.address))
            lives[-1].sendall(b"%d\n" % number)
            assert server.data_get(PATIENCE) == b"%d" % number
        ear.wait(2, EventKind.DISCONNECTED)
        assert all(isinstance(event.error, PeerLost) for event in ear.events)
        assert len(server.peers()) == 1
        for sock in lives:
            sock.close()


def test_a_device_that_falls_silent(place: Place) -> None:
    with (
        place.server("P2P", **LINES, idle_timeout=0.3) as server,
        place.transport.dial(server.address) as sock,
    ):
        ear = Ear()
        server.add_callback(ear, EventKind.DISCONNECTED)
        Bare(place, server.address, sock).say(b"hello\nwor")
        ear.wait(1, EventKind.DISCONNECTED)
        assert "idle_timeout=0.3" in str(ear.events[0].error)
        assert not server.peers()


def test_more_requests_at_once_than_the_limit(place: Place) -> None:
    """The server stops reading; every response arrives, in order."""
    count = 3000
    with (
        place.server("AR", handler=lambda request: request.data, **LINES, limits=Limits(asks=10)) as server,
        place.transport.dial(server.address) as sock,
    ):
        said = b"".join(b"%d\n" % number for number in range(count))
        sock.sendall(said)  # What the server does not read waits in the buffers of the kernel.
        assert read_exactly(sock, len(said)) == said


def test_an_error_costs_no_response(place: Place, may_log_errors: None) -> None:
    """It becomes a response itself, and what was given before arrives in full."""
    big = b"x" * 4_000_000

    def handle(request: Any) -> Any:
        return big if request.data == b"big" else 1 // 0

    dialogue = Dialogue(greeting=b"hi", on_error=lambda request, error: b"error at " + request)
    with (
        place.server("AR", handler=handle, **LINES, dialogue=dialogue) as server,
        place.transport.dial(server.address) as sock,
    ):
        sock.sendall(b"big\nbad\nbig\n")
        expected = b"hi\n" + big + b"\nerror at bad\n" + big + b"\n"
        assert read_exactly(sock, len(expected)) == expected
