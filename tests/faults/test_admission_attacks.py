"""Who gets in, and which session he gets: strangers against a door that others need."""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from linkbox import EventKind, Limits, Lines, SessionLost, StateError
from linkbox.core.wire import authentication as auth
from linkbox.core.wire import frames
from tests.faults.bare import Bare, data, hello, opening
from tests.faults.netns import namespace
from tests.faults.place import AT_ONCE, BUSY, PATIENCE, Place
from tests.faults.proxies import from_proxy
from tests.threaded.helpers import Threads, core_of, dial, wait_until

# --- accept= ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stored", [False, True], ids=["", "stored"])
def test_a_lie_about_what_was_received_where_accept_decides(
    place: Place, is_stored: bool, tmp_path: Path
) -> None:
    """The session is resumed by the loop that calls accept=: only that link pays, and the loop goes on."""
    options = {"store": tmp_path / "store"} if is_stored else {}
    with place.serving(accept=lambda info: True, **options) as server:
        for epoch, received in ((1, 0), (2, 7)):
            with Bare(place, server.address) as bare:
                bare.say(opening(epoch=epoch, received=received))
                if not received:
                    bare.welcome()
                else:
                    assert bare.refusal().code == "protocol"
        with Bare(place, server.address) as bare:
            bare.meet(session=2)
        with Bare(place, server.address) as bare:
            assert bare.meet(epoch=3).resumed, "the session is unharmed"


def test_a_newcomer_is_welcome_after_accept_has_waited(place: Place) -> None:
    """Two of one session wait for accept=: one connection of it is open in the end, not two."""
    released = threading.Event()
    waits = place.waiting_for(released, True)
    with (
        place.serving(accept=lambda info: waits(info) if info.name == "bare" else True) as server,
        Bare(place, server.address) as first,
        Bare(place, server.address) as second,
    ):
        first.say(opening())
        second.say(opening())
        wait_until(lambda: server.statistics().connections_total == 3, "both are there")
        released.set()
        outcomes = [_first_of(bare, frames.WELCOME, frames.REFUSE) for bare in (first, second)]
        assert sorted(outcomes) == [frames.WELCOME, frames.REFUSE]
        assert len(server.peers()) == 2


def _first_of(bare: Bare, *kinds: int) -> int:
    while True:
        kind, _ = bare.frame()
        if kind in kinds:
            return kind


@pytest.mark.parametrize("framing", ["linked", "plain"])
def test_an_address_whose_clients_all_wait_for_accept(place: Place, framing: str) -> None:
    """20 of one IPv6 network wait for a slow accept=: two of other addresses wait for one decision each."""
    turns: list[str] = []
    may_decide = threading.Semaphore(0)
    waits = place.waiting_for(may_decide, True)

    def accept(info: Any) -> Any:
        turns.append(info.address)
        return waits(info)

    options = {"framing": Lines()} if framing == "plain" else {}
    limits = Limits(handshake=60.0)
    server = place.server("P2M", max_peers=99, accept=accept, proxy_protocol=True, limits=limits, **options)
    with place.serving(), server, ExitStack() as stack:

        def knock(address: str, number: int) -> None:
            bare = Bare(place, server.address, stack.enter_context(_for(place, server.address, address)))
            if framing == "linked":
                bare.say(opening(pattern="p2m", session=number))
            wait_until(lambda: len(turns) + len(core_of(server).pending_accepts) == number, "it waits")

        for number in range(1, 21):
            knock(f"2001:db8::{number}", number)
        knock("2001:db8:0:1::1", 21)
        knock("2001:db8:0:2::1", 22)
        for _ in range(22):
            may_decide.release()
        wait_until(lambda: len(server.peers()) == 22, "all of them got in")
    hosts = [each.partition("[")[2].partition("]")[0] for each in turns]
    assert hosts[:4] == ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8::2"]


def _for(place: Place, address: str, source: str) -> socket.socket:
    """A connection that a proxy makes for a client with this IPv6 address."""
    return from_proxy(place, address, f"PROXY TCP6 {source} 2001:db8::ff 4711 443\r\n".encode())


@pytest.mark.parametrize("framing", ["linked", "plain"])
def test_a_stopping_server_lets_nobody_in(place: Place, framing: str) -> None:
    """accept= says yes when the server stops already: it is not kept from stopping."""
    released, asked = threading.Event(), threading.Event()
    waits = place.waiting_for(released, True)

    def accept(info: Any) -> Any:
        asked.set()
        return waits(info)

    options = {"framing": Lines()} if framing == "plain" else {}
    server = place.server("P2P", accept=accept, **options).start()
    with place.serving(), Threads() as threads, Bare(place, server.address) as bare:
        if framing == "linked":
            bare.say(opening())
        assert asked.wait(PATIENCE)
        stopped: list[bool] = []
        threads.start(lambda: stopped.append(server.stop(PATIENCE)))
        wait_until(lambda: not _is_open(server.address), "it listens no more")
        released.set()
        began = time.monotonic()
        wait_until(lambda: stopped, "it has stopped")
        assert stopped == [True]
        assert time.monotonic() - began < PATIENCE / 2


def _is_open(address: str) -> bool:
    try:
        dial(address).close()
    except OSError:
        return False
    return True


# --- Waiting for a slot -------------------------------------------------------------------------------


def _wait_for_silence(place: Place, server: Any, silent: Bare) -> Bare:
    """Knock until the server pings its silent peer instead of turning us away; returns who waits now."""
    while True:
        applicant = Bare(place, server.address)
        applicant.say(opening(pattern="p2m", session=2))
        silent.sock.settimeout(0.3)
        try:
            silent.until(frames.PING)
        except TimeoutError:
            applicant.close()  # it was refused: the peer has not been silent for long
        else:
            silent.sock.settimeout(PATIENCE)
            return applicant


def test_a_slot_that_the_stop_frees_is_nobodys(place: Place) -> None:
    """Somebody waits for a slot, and the server stops: he is refused, and the server has stopped."""
    server = place.server("P2M", max_peers=1).start()
    with place.serving(), Threads() as threads, Bare(place, server.address) as silent:
        silent.meet(pattern="p2m")
        with _wait_for_silence(place, server, silent) as waiting:
            stopped: list[bool] = []
            threads.start(lambda: stopped.append(server.stop(PATIENCE)))
            silent.until(frames.GOAWAY)
            silent.close()
            assert waiting.refusal().code == "limit"
            waiting.close()
            wait_until(lambda: stopped == [True], "it has stopped, with everything delivered")


def test_one_slot_for_two_of_one_session(place: Place) -> None:
    """Two wait for slots with one session id: that is one peer, whichever connection of it is open."""
    server = place.server("P2M", max_peers=2).start()
    with place.serving(), server, Bare(place, server.address) as silent, Bare(place, server.address) as other:
        other.meet(pattern="p2m", session=7)
        silent.meet(pattern="p2m")
        with (
            _wait_for_silence(place, server, silent) as first,
            Bare(place, server.address) as second,
        ):
            second.say(opening(pattern="p2m", session=2))
            wait_until(lambda: len(core_of(server).admission.waiting) == 2, "both wait")
            silent.close()
            other.close()
            first.welcome()
            assert second.refusal().code == "session"
            wait_until(lambda: len(server.peers()) == 1, "the others have left")


# --- HELLO --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("born", 0),
        ("born", 2),
        ("epoch", 0),
        ("epoch", 1 << 64),
        ("age", -1.0),
        ("age", 1e300),
        ("received", -1),
        ("message", 0),
        ("credit", (-1, 0)),
        ("incarnation", "x" * 101),
    ],
)
def test_a_hello_out_of_range(place: Place, field: str, value: Any) -> None:
    """It is refused, and the reason names the field; the next client is welcome."""
    with place.serving() as server:
        with Bare(place, server.address) as bare:
            bare.say(opening(**{field: value}))
            refusal = bare.refusal()
            assert refusal.code == "protocol" and f"HELLO: {field} is out of range" in refusal.reason
        with Bare(place, server.address) as bare:
            bare.meet()


# --- Crowds at the door -------------------------------------------------------------------------------


def test_silent_connections_shut_nobody_out(place: Place) -> None:
    """400 connections that say nothing, with a minute each: newcomers get in at once."""
    limits = Limits(unwelcomed=100, handshake=60.0)
    with place.serving(pause=BUSY, limits=limits) as server, ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(dial(server.address.replace("tls://", "tcp://")))
        for number in range(5):
            with place.client("P2P", server.address, name=f"honest {number}", connect_timeout=PATIENCE):
                place.peer(server, f"honest {number}")
        assert server.statistics().refused >= 300, "the silent ones were closed"


def test_the_oldest_silent_one_goes_first(place: Place) -> None:
    """Who has said something, and who waits for the application, is not pushed out by who is silent."""
    released = threading.Event()
    waits = place.waiting_for(released, True)
    accepts: Callable[[Any], Any] = lambda info: waits(info) if info.name == "bare" else True  # noqa: E731
    with (
        place.serving(limits=Limits(unwelcomed=4, handshake=60.0), accept=accepts) as server,
        Bare(place, server.address) as applicant,
        Bare(place, server.address) as begun,
        ExitStack() as stack,
    ):
        applicant.say(opening())
        begun.say(frames.preface())
        wait_until(lambda: _waits_and_has_begun(server), "they have been heard")
        silent = [stack.enter_context(Bare(place, server.address)) for _ in range(9)]
        for each in silent[:-2]:
            each.ended()
        released.set()  # The loop that calls accept= was busy with the applicant.
        applicant.welcome()
        begun.say(hello(session=2, name="also bare"))
        begun.welcome()
        silent[-1].meet(session=3, name="late")


def test_a_crowd_that_came_before_the_server(place: Place) -> None:
    """It waits in the kernel's queue, and is accepted bit by bit: those that make room are closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(listener.getsockname(), PATIENCE)) for _ in range(9)
        ]
        limits = Limits(unwelcomed=4, handshake=60.0)
        with place.server("P2P", address=listener, insecure=True, limits=limits) as server:
            for each in crowd[:5]:
                assert each.recv(100) == b""
            assert server.statistics().refused == 5
            assert len(core_of(server).admission.pending) == 4


def _waits_and_has_begun(server: Any) -> bool:
    handshakes = [link.handshake for link in core_of(server).admission.pending]
    return [each.is_greeted for each in handshakes if each] == [True, True]


def _from(inside: Any, source: str, target: Any) -> socket.socket:
    sock: socket.socket = inside.run(lambda: socket.create_connection(target[:2], PATIENCE, (source, 0)))
    return sock


def test_many_addresses_of_one_ipv6_network(place: Place) -> None:
    """The limit unwelcomed_per_ip counts a /64 as one: it is what one customer of a provider has."""
    with namespace() as inside:
        for number in range(1, 6):
            inside.ip("address", "add", f"fd00:77::{number}/64", "dev", "lo", "nodad")
        inside.ip("address", "add", "fd00:78::1/64", "dev", "lo", "nodad")
        listener = inside.run(lambda: socket.create_server(("fd00:77::1", 0), family=socket.AF_INET6))
        target = listener.getsockname()
        limits = Limits(unwelcomed_per_ip=3, handshake=60.0)
        with (
            ExitStack() as stack,
            listener,
            place.serving(address=listener, insecure=True, limits=limits, within=inside.run),
        ):
            few = [stack.enter_context(_from(inside, f"fd00:77::{number}", target)) for number in (2, 3, 4)]
            with Bare(place, "", _from(inside, "fd00:77::5", target)) as fourth:
                assert few[0].recv(100) == b"", "the oldest of that network is closed"
                fourth.meet(session=1)
            with Bare(place, "", _from(inside, "fd00:78::1", target)) as other:
                other.meet(session=2)


def test_one_address_does_not_push_out_others(place: Place) -> None:
    """In a crowd the address with the most unfinished handshakes loses one of its own."""
    with namespace() as inside:
        for number in (1, 2, 3):
            inside.ip("address", "add", f"10.77.0.{number}/24", "dev", "lo")
        listener = inside.run(lambda: socket.create_server(("10.77.0.1", 0)))
        target = listener.getsockname()
        limits = Limits(unwelcomed=6, handshake=60.0)
        with (
            ExitStack() as stack,
            listener,
            place.serving(address=listener, insecure=True, limits=limits, within=inside.run) as server,
        ):
            few = [Bare(place, "", stack.enter_context(_from(inside, "10.77.0.3", target))) for _ in range(2)]
            many = [stack.enter_context(_from(inside, "10.77.0.2", target)) for _ in range(20)]
            for each in many[:16]:
                assert each.recv(100) == b""
            wait_until(lambda: server.statistics().refused == 16, "one for each beyond the limit")
            for number, one in enumerate(few, 1):
                one.meet(session=number)


# --- The table of sessions ----------------------------------------------------------------------------


def _drop(place: Place, server: Any, number: int, *said: bytes, **more: Any) -> bool:
    """Connect, say something, and vanish; was a session resumed?"""
    with Bare(place, server.address) as bare:
        resumed = bare.meet(session=number, name=f"bare {number}", **more).resumed
        if said:
            bare.say(*said, frames.frame(frames.ACK_NOW))
            bare.until(frames.ACK)
        bare.reset()
    wait_until(lambda: all(each.name != f"bare {number}" for each in server.peers()), "it has gone")
    return resumed


@pytest.mark.parametrize("limit", ["sessions", "max_peers"])
def test_empty_sessions_push_nobody_out(place: Place, limit: str) -> None:
    """Connect and reset, again and again: the sessions that were never used go first."""
    options: dict[str, Any] = {"limits": Limits(sessions=20)} if limit == "sessions" else {"max_peers": 20}
    with place.serving(**options) as server:
        assert not _drop(place, server, 1, data(b"before"))
        for number in range(100, 130):
            _drop(place, server, number)
        assert not _drop(place, server, 2, data(b"after"))
        assert _drop(place, server, 1, epoch=2)
        assert _drop(place, server, 2, epoch=2)
        assert not _drop(place, server, 100, epoch=2), "the oldest of the empty ones"


def test_sessions_of_one_address_do_not_push_out_others(place: Place) -> None:
    """Sessions with content, but all from one address: that address has to give them up itself."""
    with namespace() as inside:
        for number in (1, 2):
            inside.ip("address", "add", f"10.77.0.{number}/24", "dev", "lo")
        listener = inside.run(lambda: socket.create_server(("10.77.0.1", 0)))
        target = listener.getsockname()

        def come(source: str, number: int, epoch: int = 1) -> bool:
            with Bare(place, "", _from(inside, source, target)) as bare:
                resumed = bare.meet(session=number, epoch=epoch, name=f"bare {number}").resumed
                if epoch == 1:
                    bare.say(data(b"content"), frames.frame(frames.ACK_NOW))
                    bare.until(frames.ACK)
                bare.reset()
            wait_until(lambda: all(each.name != f"bare {number}" for each in server.peers()), "it has gone")
            return resumed

        limits = Limits(sessions=10)
        with (
            listener,
            place.serving(address=listener, insecure=True, limits=limits, within=inside.run) as server,
        ):
            come("10.77.0.1", 1)
            for number in range(100, 130):
                come("10.77.0.2", number)
            assert come("10.77.0.1", 1, 2)
            assert not come("10.77.0.2", 100, 2)
            assert come("10.77.0.2", 129, 2)


# --- What a store keeps for who is away ---------------------------------------------------------------


class Said(logging.Handler):
    """The lines of the log of linkbox."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> Said:
        logging.getLogger("linkbox").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("linkbox").removeHandler(self)


def _errors(server: Any) -> list[SessionLost]:
    """What the server's ERROR callbacks get of lost sessions."""
    found: list[SessionLost] = []
    server.add_callback(
        lambda event: found.append(event.error) if event.receipt is None else None, EventKind.ERROR
    )
    return found


def _left_for_an_absent_peer(place: Place, server: Any, count: int = 3, **more: Any) -> Any:
    with Bare(place, server.address) as bare:
        bare.meet(**more)
        peer = place.peer(server)
        bare.reset()
    wait_until(lambda: not server.peers(), "it has gone")
    for number in range(count):
        server.send(b"%d" % number, to=peer, timeout=PATIENCE)
    return peer


def _messages(bare: Bare, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        kind, payload = bare.frame()
        if kind == frames.DATA:
            found.append(payload)
        elif kind == frames.BATCH:
            found += frames.decode_batch(payload)
    return found


@pytest.mark.parametrize("why", ["stored_session", "disconnect"])
@pytest.mark.parametrize("is_restarted", [False, True], ids=["", "restarted"])
def test_what_a_store_gives_up_is_in_doubt(
    place: Place, why: str, is_restarted: bool, tmp_path: Path
) -> None:
    """An absent client's time is over, say: its messages are kept aside, with an ERROR and a log line."""
    limits = {
        "stored_session": Limits(stored_session=0.5),
        "disconnect": Limits(),
    }[why]
    server = place.server("P2P", store=tmp_path / "store", limits=limits, max_peers=5)
    with place.serving(), Said() as said:
        errors = _errors(server)
        with server:
            peer = _left_for_an_absent_peer(place, server)
            if is_restarted:
                server.stop()
                server.start()
            if why == "disconnect":
                server.disconnect(peer)
            wait_until(lambda: errors, "an ERROR")
        [error] = errors
        assert isinstance(error, SessionLost)
        assert [each.payload for each in error.in_doubt] == [b"0", b"1", b"2"]
        assert why in str(error) or "disconnected" in str(error)
        assert any("3 messages" in line and "doubt" in line for line in said.lines), said.lines
        assert _doubt(tmp_path / "store") == [b"0", b"1", b"2"]


def _doubt(path: Path) -> list[bytes]:
    """What a store keeps aside."""
    import sqlite3

    with sqlite3.connect(path) as connection:
        found = [row[0] for row in connection.execute("SELECT payload FROM doubt ORDER BY id")]
    connection.close()
    return found


# --- Who is who ---------------------------------------------------------------------------------------

SECRETS = {"pump": "what the pump knows", "valve": "what the valve knows", "regular": "r"}


def _prove(bare: Bare, name: str, **more: Any) -> Bare:
    """Shake hands as one who knows the secret of that name."""
    said, nonce = hello(name=name, **more), bytes(auth.NONCE)
    bare.say(frames.preface(), said)
    challenge = bare.until(frames.CHALLENGE)
    is_tls = isinstance(bare.sock, ssl.SSLSocket)
    certificate = hashlib.sha256(bare.sock.getpeercert(True) or b"").digest() if is_tls else b""
    mac = auth.mac(SECRETS[name].encode(), "client", said[4:], challenge, nonce, certificate)
    proof = {"mac": mac.hex(), "nonce": nonce.hex()}
    bare.say(frames.frame(frames.PROOF, msgspec.json.encode(proof)))
    return bare


def test_a_session_id_is_not_an_identity(place: Place) -> None:
    """The valve takes the session id that the pump had: what is meant for the pump does not reach it."""
    server = place.server("P2P", secret=SECRETS.get, limits=Limits(session=0.1), max_peers=5)
    with place.serving(), server:
        with Bare(place, server.address) as bare:
            _prove(bare, "pump").welcome()
            pump = place.peer(server, "pump")
            bare.say(data(b"of the pump"))
            wait_until(lambda: server.statistics().waiting == 1)
            bare.reset()
        wait_until(lambda: not core_of(server).channels, "its session is over")
        with Bare(place, server.address) as bare:
            _prove(bare, "valve").welcome()
            valve = place.peer(server, "valve")
            assert (pump.id, pump.identity, valve.id, valve.identity) == (pump.id, "pump", pump.id, "valve")
            bare.say(data(b"of the valve"))
            wait_until(lambda: server.statistics().waiting == 2)
            for call in (
                lambda: server.send(b"for the pump", to=pump),
                lambda: server.end(to=pump),
                lambda: server.disconnect(pump),
            ):
                with pytest.raises(StateError, match="not connected"):
                    call()
            assert server.link(valve).data_get(0) == b"of the valve"
            assert server.link(pump).data_get(0) == b"of the pump"
            with pytest.raises(StateError):
                server.link(pump)
            server.send(b"for the valve", to=valve)
            assert _messages(bare, 1) == [b"for the valve"]


def test_a_peer_that_comes_back_from_elsewhere(place: Place) -> None:
    """It resumes its session from another port and with another name: both are shown, by the same peer."""
    seen: list[Any] = []
    server = place.server("P2P", accept=lambda info: seen.append(info) or True)
    with place.serving(), server, Bare(place, server.address) as first:
        first.meet(name="first")
        [peer] = server.peers()
        with Bare(place, server.address) as second:
            assert second.meet(name="second", epoch=2).resumed
            assert server.peers() == (peer,)
            host, port = second.sock.getsockname()
            assert (peer.name, peer.address) == ("second", f"{place.transport.name}://{host}:{port}")
            assert (seen[-1].name, seen[-1].address) == (peer.name, peer.address)


def test_an_ipv4_client_of_an_ipv6_server(place: Place) -> None:
    """A server at [::] shows the client's IPv4 address, and counts it as such."""
    seen: list[Any] = []
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        server = place.server(
            "P2P", address=listener, insecure=True, accept=lambda info: seen.append(info) or True
        )
        with place.serving(), server:
            at = f"{place.transport.name}://127.0.0.1:{listener.getsockname()[1]}"
            with Bare(place, at) as bare:
                bare.meet()
                shown = f"{place.transport.name}://127.0.0.1:{bare.sock.getsockname()[1]}"
                assert [each.address for each in seen] == [shown]
                assert [each.address for each in server.peers()] == [shown]


# --- Half-closed, and never closed --------------------------------------------------------------------


def test_a_peer_that_never_closes_its_half(place: Place) -> None:
    """Both have ended, and the peer, alive as ever, does not close: the limit close is for that."""
    limits = Limits(close=0.5)
    server = place.server("P2P", limits=limits)
    with place.serving(), server, Bare(place, server.address) as bare:
        bare.meet(resumes=False)
        bare.say(frames.encode_number(frames.END, 0))
        assert bare.until(frames.END)
        began = time.monotonic()
        bare.sock.settimeout(0.05)
        while server.statistics().connections:
            bare.say(frames.encode_number(frames.PING, 1))
            assert time.monotonic() - began < PATIENCE / 2, "it waits for as long as there are pings"
            time.sleep(0.02)  # It keeps the connection alive.


@pytest.mark.parametrize("kind", ["P2M", "AR"])
def test_a_plain_server_that_never_closes_its_half(place: Place, kind: str) -> None:
    """A client over a plain framing that has done its work closes, whatever the device does."""
    with place.serving(), socket.create_server(("127.0.0.1", 0)) as listener, Threads() as threads:
        over = threading.Event()

        def device() -> None:
            sock, _ = listener.accept()
            if place.transport.name == "tls":
                sock = place.transport.server["ssl"].wrap_socket(sock, server_side=True)
            with sock:
                assert sock.recv(100) == b"how much?\n"
                if kind == "AR":
                    sock.sendall(b"1.5\n")
                assert sock.recv(100) == b""
                over.wait(3 * PATIENCE)  # The other half stays open.

        threads.start(device)
        address = f"{place.transport.name}://127.0.0.1:{listener.getsockname()[1]}"
        limits = Limits(close=0.3)
        try:
            with place.client(kind, address, framing=Lines(), limits=limits, reconnect=AT_ONCE) as client:
                if kind == "AR":
                    assert client.ask(b"how much?", timeout=PATIENCE) == b"1.5"
                else:
                    client.send(b"how much?", timeout=PATIENCE)
                wait_until(lambda: not client.statistics().connections, "the connection is closed")
        finally:
            over.set()
