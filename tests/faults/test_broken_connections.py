"""Connections that end in all the wrong ways, and some that do not end although nobody is there."""

from __future__ import annotations

import ctypes
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from linkbox import EventKind, Limits, PeerLost
from linkbox.core.wire import frames
from linkbox.testing import FaultyProxy
from tests.faults.bare import Bare, data, opening
from tests.faults.place import AT_ONCE, PATIENCE, Place
from tests.threaded.helpers import Process, wait_until

TUNED = Limits(heartbeat=0.3, peer_timeout=0.5)
FOUND = 8.0
"""Seconds in which a dead peer must be found with these: less than a default limit; it may be busy."""

# A process without any linkbox in it: it starts at once. It says what is on its command line, and waits.
SAYS = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(bytes.fromhex(sys.argv[2]))
if sys.argv[3] == "welcomed":
    sock.recv(8, socket.MSG_WAITALL)
    while not sock.recv(65536):
        pass
print("said")
sys.stdin.read()
"""


def test_a_peer_process_is_killed_at_each_byte(place: Place) -> None:
    """kill -9 in the preface, in HELLO, in the header and in the body of a message: whole ones count only."""
    whole = opening() + data(b"whole")
    said = whole + data(b"half")
    cuts = [0, 5, 8, 10, 100, *range(len(whole), len(said))]
    with place.serving() as server, ExitStack() as stack:
        ear = place.ear(server, EventKind.DISCONNECTED)
        port = server.address.rpartition(":")[2]
        children = []
        for number, cut in enumerate(cuts, 1):
            words = (opening(session=number) + said[len(opening()) :])[:cut]
            state = "welcomed" if cut >= len(whole) else "silent"
            children.append(stack.enter_context(Process(SAYS, port, words.hex(), state, is_measured=False)))
        for child in children:
            assert child.line() == "said"
        met = [cut for cut in cuts if cut >= len(whole)]
        wait_until(lambda: len(server.peers()) == 1 + len(met), "all who said HELLO are there")
        views = [server.link(peer) for peer in server.peers() if peer.name == "bare"]
        for child in children:
            child.signal(signal.SIGKILL)
        ear.wait(len(met))
        for view in views:
            assert view.data_get_all() == [b"whole"]


def test_a_reset(place: Place) -> None:
    """RST instead of FIN: in the handshake, between messages, in the middle of one."""
    with place.serving() as server:
        for said in (b"", opening()[:20]):
            Bare(place, server.address).say(said).reset()
        for number, rest in enumerate((b"", data(b"half")[:6]), 1):
            bare = Bare(place, server.address)
            bare.meet(session=number, name=f"bare {number}")
            view = place.view(server, f"bare {number}")
            ear = place.ear(server, EventKind.DISCONNECTED, name=f"bare {number}")
            bare.say(data(b"whole"), rest)
            assert view.data_get(5) == b"whole"
            bare.reset()
            assert isinstance(ear.wait().error, PeerLost)
            assert view.data_empty()


def test_a_fin_without_an_end(place: Place) -> None:
    """A close in order, of TCP, is no END: the conversation may come back, so it is not over."""
    with place.serving() as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED, EventKind.END)
        bare.meet()
        bare.sock.shutdown(socket.SHUT_WR)
        assert ear.wait().kind is EventKind.DISCONNECTED
        assert isinstance(ear.events[0].error, PeerLost)
        bare.ended()


# --- Nobody there, and nobody says so -----------------------------------------------------------------


CLIENT = """
with place.client("P2P", sys.argv[4], name="child") as client:
    print("connected")
    print(client.data_get(30))
"""


def test_half_open_the_peer_process_is_stopped(place: Place) -> None:
    """SIGSTOP: its kernel goes on acknowledging bytes. When it goes on, its session does."""
    with place.serving(limits=TUNED) as server, place.child(CLIENT, server.address) as child:
        assert child.line() == "connected"
        ear = place.ear(server, EventKind.DISCONNECTED, EventKind.RESUMED, name="child")
        began = time.monotonic()
        child.signal(signal.SIGSTOP)
        assert "no sign of life" in str(ear.wait(kind=EventKind.DISCONNECTED).error)
        assert time.monotonic() - began < FOUND
        server.send(b"while you were away", to=server.link(_last(ear)).peer)
        child.signal(signal.SIGCONT)
        ear.wait(kind=EventKind.RESUMED)
        assert child.line() == "b'while you were away'"
        assert child.wait() == 0


def _last(ear: Any) -> Any:
    return ear.events[-1].peer


@contextmanager
def _found_dead(place: Place) -> Iterator[Bare]:
    """Whatever the block does to a welcomed peer: the server finds out that it is gone, in time."""
    with place.serving(limits=TUNED) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        bare.say(data(b"last words"))
        assert place.view(server).data_get(5) == b"last words"
        began = time.monotonic()
        yield bare
        assert isinstance(ear.wait(kind=EventKind.DISCONNECTED).error, PeerLost)
        assert time.monotonic() - began < FOUND


def test_half_open_a_filter_drops_every_packet(place: Place) -> None:
    """SO_ATTACH_FILTER with a program that returns 0: a black hole on one socket, and not a word."""
    with _found_dead(place) as bare:
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # "return 0"
        program = struct.pack("HL", 1, ctypes.addressof(drop_all))
        bare.sock.setsockopt(socket.SOL_SOCKET, 26, program)


def test_half_open_the_peer_vanishes_without_fin(place: Place) -> None:
    """TCP_REPAIR and close: the socket is gone, and nobody was told."""
    with _found_dead(place) as bare:
        try:
            bare.sock.setsockopt(socket.IPPROTO_TCP, 19, 1)
        except PermissionError:
            pytest.skip("TCP_REPAIR needs CAP_NET_ADMIN")
        bare.close()


def test_a_dead_peer_is_found_within_interval_and_timeout(place: Place) -> None:
    """The limits heartbeat and peer_timeout. A peer that answers PINGs lives on, however silent it is."""
    with place.serving(limits=TUNED) as server, Bare(place, server.address) as bare:
        ear = place.ear(server, EventKind.DISCONNECTED)
        began = time.monotonic()  # Before it is heard, so that no pause of ours makes the server seem hasty.
        bare.meet()
        for _ in range(2):
            ping = bare.until(frames.PING)
            answered = time.monotonic()
            bare.say(frames.frame(frames.PONG, ping))
        assert answered - began > 1.9 * TUNED.heartbeat and not ear.events
        bare.until(frames.PING)
        assert "no sign of life" in str(ear.wait().error)
        assert TUNED.heartbeat + TUNED.peer_timeout - 0.1 < time.monotonic() - answered < FOUND


# --- What is on its way -------------------------------------------------------------------------------


def test_closing_with_unread_input(place: Place) -> None:
    """A refused peer that says more than anybody reads still hears why: the server drains, then closes."""
    with place.serving() as server:
        with Bare(place, server.address) as bare:
            bare.say(opening(format="json"), data(bytes(50_000)))
            assert bare.refusal().code == "format"
            bare.ended()
        with Bare(place, server.address) as bare:  # and the peer closes with unread input
            ear = place.ear(server, EventKind.DISCONNECTED)
            bare.meet()
            server.send(b"never read", to=place.peer(server))
            wait_until(lambda: bare.sock.recv(1 << 20, socket.MSG_PEEK), "it has input")
        assert isinstance(ear.wait().error, PeerLost)


def test_a_lost_acknowledgement(place: Place) -> None:
    """ACKs vanish, then the connection breaks: what had arrived is not sent, or not taken, twice."""
    with (
        place.serving() as server,
        FaultyProxy(server.address) as proxy,
        place.client("P2P", proxy.address, name="bare", reconnect=AT_ONCE) as client,
    ):
        view = place.view(server)
        for number in range(8):
            proxy.change("down", eat_acks=True)
            client.send(b"%d" % number)
            assert view.data_get(5) == b"%d" % number
            proxy.change("down", eat_acks=False)
            proxy.cut()
        client.send(b"last").wait(timeout=PATIENCE)
        assert view.data_get_all() == [b"last"]


def test_an_old_connections_bytes_after_a_resume(place: Place) -> None:
    """The newest connection has the session; what the older one still says is nobody's."""
    with place.serving() as server, Bare(place, server.address) as old, Bare(place, server.address) as new:
        ear = place.ear(server, EventKind.RESUMED)
        first = old.meet()
        view = place.view(server)
        old.say(data(b"one"))
        assert view.data_get(5) == b"one"
        welcome = new.meet(epoch=2, incarnation=first.incarnation)
        assert (welcome.resumed, welcome.received) == (True, 1)
        ear.wait()
        old.flood(data(b"from the grave"), 3)
        old.ended()
        new.say(data(b"two"))
        assert view.data_get(5) == b"two"
        assert view.data_empty()


def test_a_connection_that_is_said_again(place: Place) -> None:
    """Every byte of a conversation, replayed on a new connection: the epoch is not newer, it is refused."""
    with (
        place.serving() as server,
        FaultyProxy(server.address) as proxy,
        place.client("P2P", proxy.address, name="bare") as client,
    ):
        client.send(b"once").wait(timeout=PATIENCE)
        view = place.view(server)
        refused = server.statistics().refused
        proxy.replay(0)
        wait_until(lambda: server.statistics().refused > refused, "it is refused")
        client.send(b"and on").wait(timeout=PATIENCE)
        assert view.data_get_all() == [b"once", b"and on"]


def test_a_resume_from_what_was_never_sent(place: Place) -> None:
    """A peer that claims to have more than it was sent is refused, and does not take the session along."""
    with place.serving() as server, Bare(place, server.address) as good:
        first = good.meet()
        view = place.view(server)
        with Bare(place, server.address) as liar:
            liar.say(opening(epoch=2, incarnation=first.incarnation, received=7))
            assert liar.refusal().code == "protocol"
        good.say(data(b"still here"))
        assert view.data_get(5) == b"still here"


def test_a_cut_inside_a_large_message(place: Place) -> None:
    """Reset somewhere in three megabytes, several times: the whole message arrives, once."""
    body = bytes(range(256)) * 12_000
    with (
        place.serving() as server,
        FaultyProxy(server.address, cut_after=1_200_000) as proxy,
        place.client("P2P", proxy.address, name="bare", reconnect=AT_ONCE) as client,
    ):
        receipt = client.send(body)
        wait_until(lambda: proxy.connections >= 2, "it was cut")
        proxy.heal()
        receipt.wait(timeout=PATIENCE)
        assert place.view(server).data_get_all() == [body]
