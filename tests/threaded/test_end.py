"""The END mark: everything before it is delivered, both sides say it, then the link closes."""

from __future__ import annotations

import threading

import pytest

from linkbox import (
    ClientP2P,
    EndOfData,
    EventKind,
    Incomplete,
    Json,
    Limits,
    PeerLost,
    ServerP2P,
    Stage,
    StateError,
)
from tests.threaded.helpers import Ear, Relay, Threads, wait_until


def test_everything_before_the_end_is_delivered_then_the_link_closes() -> None:
    with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
        peer = _only_peer(server)
        for number in range(5000):
            client.send(number)
        client.end()
        assert list(server.link(peer)) == list(range(5000)) if server.peers() else True
        with pytest.raises(StateError, match="ended"):
            client.send(1)
        with pytest.raises(EndOfData):
            client.data_get(5)
        wait_until(lambda: not server.peers() and not client.peers(), "closed")


def _only_peer(server: ServerP2P) -> object:
    server.wait_connected(timeout=5)
    return server.peers()[0]


@pytest.mark.parametrize("who", ["server", "client"])
def test_the_other_side_sends_what_is_outstanding_then_its_own_end(who: str) -> None:
    """One side ends; the other has a full window still to send: all of it arrives at the one that ended."""
    limits = Limits(mailbox_messages=100, window_messages=100_000)
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, limits=limits) as server,
        ClientP2P(server.address, Json, limits=limits) as client,
    ):
        server.wait_connected(timeout=5)
        ender, other = (server, client) if who == "server" else (client, server)
        view = server.link(server.peers()[0])
        receipts = [other.send(number) for number in range(5000)]
        ender.end()
        taken = list(view if who == "server" else client)
        assert taken == list(range(5000))
        assert receipts[-1].wait(timeout=5) >= Stage.RECEIVED
        with pytest.raises(StateError):
            other.send(1)


def test_both_end_at_once() -> None:
    for _ in range(30):
        with ServerP2P("tcp://127.0.0.1:0", Json) as server, ClientP2P(server.address, Json) as client:
            server.wait_connected(timeout=5)
            view = server.link(server.peers()[0])
            barrier = threading.Barrier(2)

            def finish(endpoint: object, barrier: threading.Barrier = barrier) -> None:
                endpoint.send("last words")
                barrier.wait(5)
                endpoint.end()

            with Threads() as threads:
                threads.start(finish, client)
                threads.start(finish, view)
            assert list(view) == ["last words"]
            assert list(client) == ["last words"]
            wait_until(lambda server=server: not server.peers(), "closed")


def test_the_end_rings_after_the_last_message_and_a_server_goes_on() -> None:
    ear = Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server:
        server.add_callback(ear, *EventKind)
        for life in range(3):
            with ClientP2P(server.address) as client:
                client.send(b"a")
                client.send(b"b")
                client.end()
            ear.wait(life + 1, EventKind.DISCONNECTED)
        assert server.data_get_all() == [b"a", b"b"] * 3
        kinds = [kind for kind in ear.kinds() if kind is not EventKind.DELIVERED]
        one = [EventKind.CONNECTED, EventKind.DATA, EventKind.DATA, EventKind.END, EventKind.DISCONNECTED]
        assert kinds == one * 3
        assert all(event.error is None for event in ear.events if event.kind is EventKind.DISCONNECTED)
        assert all(event.peer is not None and event.endpoint is server for event in ear.events)


def test_a_client_hears_the_end_of_the_server() -> None:
    ear = Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        client.add_callback(ear, EventKind.END, EventKind.DISCONNECTED, EventKind.CONNECTED)
        server.wait_connected(timeout=5)
        server.send(b"bye")
        server.end()
        ear.wait(kind=EventKind.DISCONNECTED)
        assert ear.kinds() == [EventKind.END, EventKind.DISCONNECTED]
        assert list(client) == [b"bye"]
        # No reconnect after END, and a new client gets the place.
        with ClientP2P(server.address, connect_timeout=5) as next_one:
            assert next_one.send(b"next").wait(timeout=5)
        assert client.peers() == ()


def test_end_with_count_that_never_comes() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.wait_connected(timeout=5)
        server.send(b"12345")
        server.end()
        with pytest.raises(Incomplete) as caught:
            client.data_get_count(6, 5)
        assert caught.value.available == 5
        assert client.data_get_count(5, 5) == b"12345"
        with pytest.raises(EndOfData):
            client.data_get_count(1, 5)


def test_a_waiting_count_learns_of_the_end() -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            client.data_get_count(100)
        except (Incomplete, EndOfData) as error:
            errors.append(error)

    with ServerP2P("tcp://127.0.0.1:0") as server, ClientP2P(server.address) as client:
        server.wait_connected(timeout=5)
        with Threads() as threads:
            threads.start(wait)
            server.send(b"abc")
            wait_until(lambda: client.data_count() == 3, "it waits for more")
            server.end()
    assert [type(error) for error in errors] == [Incomplete]
    assert errors[0].available == 3


def test_a_view_on_a_peer_ends_with_it_and_others_go_on() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, max_peers=2) as server,
        ClientP2P(server.address, Json, name="a") as a,
        ClientP2P(server.address, Json, name="b") as b,
    ):
        server.wait_connected(2, timeout=5)
        peers = {peer.name: peer for peer in server.peers()}
        views = {name: server.link(peer) for name, peer in peers.items()}
        a.send(1)
        a.end()
        assert list(views["a"]) == [1]
        b.send(2)
        assert views["b"].data_get(5) == 2
        views["b"].send("still here")
        assert b.data_get(5) == "still here"
        with pytest.raises(StateError):
            views["a"].send("?")


def test_end_to_one_of_several() -> None:
    with (
        ServerP2P("tcp://127.0.0.1:0", Json, max_peers=3) as server,
        ClientP2P(server.address, Json, name="a") as a,
        ClientP2P(server.address, Json, name="b") as b,
    ):
        server.wait_connected(2, timeout=5)
        peers = {peer.name: peer for peer in server.peers()}
        with pytest.raises(StateError):
            server.end()
        server.end(peers["a"])
        with pytest.raises(EndOfData):
            a.data_get(5)
        server.broadcast("for the rest")
        assert b.data_get(5) == "for the rest"


def test_end_twice_and_after_stop() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        client = ClientP2P(server.address).start()
        client.send(b"x")
        client.end()
        client.end()
        assert client.stop() is True
        with pytest.raises(StateError):
            client.end()
        assert server.data_get(5) == b"x"


@pytest.mark.parametrize("after", [0, 1, 5, 20, 100, 1000])
def test_an_end_that_is_cut_is_said_again(after: int) -> None:
    """The connection breaks while the END is on its way: nothing is lost, and it ends in order."""
    with ServerP2P("tcp://127.0.0.1:0", Json) as server:
        with Relay(server.address) as relay:
            client = ClientP2P(relay.address, Json).start()
            for number in range(500):
                client.send(number)
            for number in range(after):
                assert server.data_get(5) == number if number < 500 else True
            client.end()
            relay.cut()
            assert client.stop(10) is True
        rest = server.data_get_all()
        assert rest == list(range(after if after < 500 else 500, 500))


def test_the_last_bytes_of_an_ended_conversation_survive_unread_input() -> None:
    """The one that stops has unread input: the kernel must not destroy what it still says (no RST)."""
    for _ in range(10):
        server = ServerP2P("tcp://127.0.0.1:0").start()
        client = ClientP2P(server.address).start()
        server.wait_connected(timeout=5)
        sent = 0
        for _ in range(200):
            client.send(b"noise" * 100)
            server.send(b"y" * 10_000)
            sent += 10_000
        assert server.stop(10) is True
        assert sum(map(len, client.data_get_all())) == sent
        assert client.stop() is True


def test_a_lost_peer_is_not_an_end() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server, Relay(server.address) as relay:
        ear = Ear()
        with ClientP2P(relay.address, reconnect=None) as client:
            client.add_callback(ear, EventKind.END, EventKind.ERROR, EventKind.DISCONNECTED)
            server.wait_connected(timeout=5)
            relay.cut()
            with pytest.raises(PeerLost):
                client.data_get(5)
            assert isinstance(ear.wait(kind=EventKind.DISCONNECTED).error, PeerLost)
            assert EventKind.END not in ear.kinds()
