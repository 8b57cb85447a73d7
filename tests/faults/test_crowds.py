"""Too many at once: connections, strangers, scans; and no descriptors left."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from linkbox import EventKind, Limits, PeerLost, StoreError
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, hello
from tests.faults.netns import namespace
from tests.faults.place import BUSY, PATIENCE, PAUSE, Place, growing_less_than
from tests.threaded.helpers import PROMPT, descriptors, for_ever, wait_until


@contextmanager
def _crowd(place: Place, address: str, count: int) -> Iterator[list[Bare]]:
    """So many connections that say nothing."""
    with ExitStack() as stack:
        yield [stack.enter_context(Bare(place, address)) for _ in range(count)]


SCAN = """
from tests.faults.bare import Bare
for line in sys.stdin:
    for number in range(int(line)):
        bare = Bare(place, sys.argv[4])
        (bare.reset if number % 2 else bare.close)()
    print("done")
"""


def test_a_port_scan(place: Place) -> None:
    """5,000 connects by another process, closed at once: nothing of them stays, not even memory."""
    with place.serving() as server, place.child(SCAN, server.address) as child:

        def scan(count: int) -> None:
            child.say(str(count))
            assert child.line() == "done"
            wait_until(lambda: len(descriptors()) <= before, "they are gone")

        before = len(descriptors())
        scan(1000)  # What is made once is made now.
        with growing_less_than(1):
            scan(4000)


FLOOD = """
from contextlib import ExitStack
from tests.faults.bare import Bare
for line in sys.stdin:
    with ExitStack() as stack:
        for _ in range(250):
            stack.enter_context(Bare(place, sys.argv[4]))
        print("there")
        sys.stdin.readline()
"""


def test_a_connection_flood(place: Place) -> None:
    """5,000 silent connections of another process, 250 at a time; a newcomer gets in when it has passed."""
    with place.serving() as server, place.child(FLOOD, server.address) as child:
        for _ in range(20):
            child.say("come")
            assert child.line() == "there"
            assert len(server.peers()) == 1
            child.say("go")
        with Bare(place, server.address) as bare:
            bare.meet()


OWN_FLOOD = """
import select, socket
from tests.faults.bare import Bare, opening
from linkbox.core.wire import frames
said = {"silent": b"", "preface": frames.preface(), "half a HELLO": opening()[:60],
    "refused": opening(pattern="none"), "half of TLS": b"\\x16\\x03\\x01\\x02",
    "no TLS": b"\\n", "no TLS, and more": bytes(1000)}[sys.argv[5]]
host, port = sys.argv[4].rpartition("/")[2].rsplit(":", 1)
poll, socks, held, closed = select.epoll(), {}, [], 0
while True:
    for _ in range(min(100, 2000 - len(socks))):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex((host, int(port)))
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLOUT if said else select.EPOLLIN)
    for fd, mask in poll.poll(0.01):
        sock = socks[fd]
        try:
            if mask & select.EPOLLOUT:
                sock.send(said)
                poll.modify(fd, select.EPOLLIN)
            elif not sock.recv(65536):  # It is refused, or closed: either way it keeps its half for a while.
                poll.unregister(fd)
                held.append(fd)
        except OSError:
            poll.unregister(fd)
            held.insert(0, fd)
    while len(held) > 500:
        socks.pop(held.pop(0)).close()
        closed += 1
        if closed == 500:
            print("flooding")
"""


@pytest.mark.parametrize("said", ["silent", "preface", "half a HELLO", "refused"])
def test_a_flood_from_the_address_of_a_client(place: Place, said: str) -> None:
    """2,000 connections that never finish their handshake, each replaced at once: clients wait for none."""
    if place.transport.name == "tls" and said != "silent":
        said = {"preface": "half of TLS", "half a HELLO": "no TLS", "refused": "no TLS, and more"}[said]
    with (
        place.serving("AR", pause=BUSY) as server,
        place.child(OWN_FLOOD, server.address, said) as child,
        place.client("AR", server.address, connect_timeout=PATIENCE) as client,
    ):
        assert child.line() == "flooding"
        before, waits, lost = server.statistics().refused, [], 0
        while len(waits) < 9 or server.statistics().refused < before + 5000:
            began = time.monotonic()
            try:
                assert client.ask(b"%d" % len(waits)) == b"%d" % len(waits)
            except PeerLost:  # Its HELLO was on its way when it made room: rare, and not asked again.
                lost += 1
                assert lost <= len(waits) + 1
                continue
            waits.append(time.monotonic() - began)
        # The others may have waited for their turn on a busy machine.
        assert min(waits) < PAUSE, f"clients had to wait {waits}"


def test_too_many_unwelcomed(place: Place) -> None:
    """The limits unwelcomed and handshake: the oldest make room at once, others after their time."""
    limits = Limits(unwelcomed=5, handshake=1.0)
    with place.serving(limits=limits) as server, _crowd(place, server.address, 8):
        _wait_for_total(server, 9)  # the regular, and all of them
        with Bare(place, server.address) as bare:
            bare.meet()
            wait_until(lambda: server.statistics().connections == 2, "only those who shook hands are left")


def test_too_many_unwelcomed_from_one_ip(place: Place) -> None:
    """The limit unwelcomed_per_ip: one more of that address, and its own oldest is closed; others stay.

    Those that have said something are closed after those that are silent.
    """
    with namespace() as inside:
        for address in ("10.77.0.1/24", "10.77.0.2/24"):
            inside.ip("address", "add", address, "dev", "lo")
        listener = inside.run(lambda: socket.create_server(("10.77.0.1", 0)))
        target = listener.getsockname()

        def connect(source: str) -> Bare:
            return Bare(
                place, "", inside.run(lambda: socket.create_connection(target, PATIENCE, (source, 0)))
            )

        limits = Limits(unwelcomed_per_ip=3, handshake=60.0)
        with (
            ExitStack() as stack,
            listener,
            place.serving(address=listener, insecure=True, limits=limits, within=inside.run) as server,
        ):
            other = stack.enter_context(connect("10.77.0.1"))
            first = stack.enter_context(connect("10.77.0.2"))
            first.say(frames.preface())
            first.sock.recv(8, socket.MSG_PEEK)  # the server has read it, and has answered
            silent = []
            for count in range(1, 10):
                silent.append(stack.enter_context(connect("10.77.0.2")))
                _wait_for_total(server, 3 + count)
            for each in silent[:-2]:
                assert each.sock.recv(10) == b"", "the oldest silent one is closed"
            assert server.statistics().refused == 7
            first.say(hello(session=1))
            first.welcome()
            silent[-1].meet(session=2)
            other.meet(session=3)


def _wait_for_total(server: Any, count: int) -> None:
    wait_until(lambda: server.statistics().connections_total == count, f"{count} were let in")


def test_half_open_the_cable_is_pulled(place: Place) -> None:
    """A veth pair between two namespaces, and one end goes down: no FIN, no RST, no route."""
    with namespace() as here, namespace() as there:
        here.ip("link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(there.id))
        for side, name, address in ((here, "here", "10.77.1.1/24"), (there, "there", "10.77.1.2/24")):
            side.ip("address", "add", address, "dev", name)
            side.ip("link", "set", name, "up")
        listener = here.run(lambda: socket.create_server(("10.77.1.1", 0)))
        limits = Limits(heartbeat=0.3, peer_timeout=0.5)
        with (
            listener,
            place.serving(address=listener, insecure=True, limits=limits, within=here.run) as server,
            there.run(lambda: Bare(place, server.address)) as bare,
        ):
            ear = place.ear(server, EventKind.DISCONNECTED)
            bare.meet()
            bare.say(data(b"hello"))
            assert place.view(server).data_get(5) == b"hello"
            began = time.monotonic()
            there.ip("link", "set", "there", "down")
            assert isinstance(ear.wait().error, PeerLost)
            assert time.monotonic() - began < PROMPT


def test_too_many_connections(place: Place) -> None:
    """The limit connections: one more is closed at once; a place that is free again can be had."""
    with place.serving(limits=Limits(connections=4)) as server, ExitStack() as stack:
        peers = [stack.enter_context(Bare(place, server.address)) for _ in range(3)]
        for number, bare in enumerate(peers):
            bare.meet(session=number)
        with Bare(place, server.address) as fifth:
            assert fifth.ended() < PROMPT
        assert server.statistics().refused == 1
        peers[0].close()
        wait_until(lambda: server.statistics().connections == 3, "it has left")
        with Bare(place, server.address) as bare:
            bare.meet(session=9)


def test_backlog_overflow(place: Place) -> None:
    """The kernel's queue is full, and it drops who knocks: it knocks again, and gets in."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        limits = Limits(unwelcomed=1, handshake=0.3)
        with place.serving(address=listener, limits=limits) as server, ExitStack() as stack:
            for _ in range(6):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            began = time.monotonic()
            with place.client("P2P", server.address, name="bare", connect_timeout=20) as client:
                client.send(b"at last").wait(timeout=PATIENCE)
            assert time.monotonic() - began < 12, "the kernel knocks again after 1, 3 and 7 seconds"


SCARCE = """
import os, resource
server = place.server("AR", handler=lambda request: request.data).start()
print(server.address)
sys.stdin.readline()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8, hard))
print("scarce")
sys.stdin.readline()
print(server.stop())
"""


def test_no_descriptors_left(place: Place) -> None:
    """EMFILE at accept: who is there is served on; within a second of having some again, newcomers are."""
    with place.child(SCARCE) as child:
        address = child.line()
        with place.regular(address, "AR"):
            child.say("be scarce")
            assert child.line() == "scarce"
            with _crowd(place, address, 30):
                wait_until(lambda: "cannot accept connections for now" in child.stderr, "it has none left")
            began = time.monotonic()
            with place.client("AR", address) as client:
                assert client.ask(b"me too") == b"me too"
            assert time.monotonic() - began < PROMPT
        child.say("stop")
        assert child.line() == "True"
        assert "Traceback" not in child.finish_stderr()


POOR = """
import resource
client = place.client("AR", sys.argv[4], connect_timeout=2.0)
print(client.ask(b"rich"))
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
try:
    client.ask(b"poor")
except BaseException as error:
    print(type(error).__name__)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(client.ask(b"rich again"))
client.stop()
"""


def test_a_client_without_descriptors(place: Place) -> None:
    """It cannot connect, and says so; with descriptors again it can."""
    with place.serving("AR") as server, place.child(POOR, server.address) as child:
        assert child.line() == "b'rich'"
        assert child.line() == "ConnectFailed"
        assert child.line() == "b'rich again'"
        assert child.wait() == 0


def test_sessions_of_peers_that_never_come_back(place: Place) -> None:
    """The limit sessions: so many are kept, the oldest that were never used go first; live ones stay."""
    with place.serving(limits=Limits(sessions=20)) as server:
        lost = place.ear(server, EventKind.DISCONNECTED)

        def come(number: int, epoch: int) -> bool:
            with Bare(place, server.address) as bare:
                return bare.meet(session=number, epoch=epoch).resumed

        for number in range(50):
            come(number, 1)
        lost.wait(50)
        assert [come(number, 2) for number in (49, 31, 20, 0)] == [True, True, False, False]


def test_a_session_whose_time_is_over(place: Place) -> None:
    """The limit session: what was meant for a peer that does not come back fails, and says so."""
    with place.serving(limits=Limits(session=0.2)) as server, Bare(place, server.address) as bare:
        lost = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        peer = place.peer(server)
        bare.reset()
        lost.wait()
        receipt = server.send(b"come back", to=peer)
        with pytest.raises(PeerLost, match="did not come back"):
            receipt.wait(timeout=PATIENCE)


def test_a_stored_session_whose_time_is_over(place: Place, tmp_path: Path) -> None:
    """The limit stored_session: the same for a server with a store, which keeps sessions for days."""
    limits = Limits(stored_session=0.2)
    with (
        place.serving(limits=limits, store=tmp_path / "store") as server,
        Bare(place, server.address) as bare,
    ):
        lost = place.ear(server, EventKind.DISCONNECTED)
        bare.meet()
        peer = place.peer(server)
        receipt = server.send(b"come back", to=peer)
        bare.reset()
        lost.wait()
        with pytest.raises(PeerLost, match="did not come back"):
            receipt.wait(timeout=PATIENCE)


def test_a_store_that_is_full(place: Place, tmp_path: Path) -> None:
    """The limit store_bytes: what is never acknowledged stays in the store; send() says when it is full.

    The well-behaved client talks to another server: this one can send nothing more to anybody.
    """
    server = place.server("P2P", store=tmp_path / "store", limits=Limits(store_bytes=100_000))
    with place.serving(), server, Bare(place, server.address) as bare:
        bare.meet()
        peer = place.peer(server)
        with pytest.raises(StoreError):
            for_ever(lambda: server.send(bytes(10_000), to=peer, timeout=5))
        assert server.peers() == (peer,)
        bare.reset()
        server.stop(0.5)
