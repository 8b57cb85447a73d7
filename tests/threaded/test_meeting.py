"""Two ends that meet, or do not: addresses, refusals, strangers at the door, peers that behave badly."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linkbox import (
    AddressError,
    Bytes,
    ClientAR,
    ClientP2M,
    ClientP2P,
    ConnectFailed,
    EventKind,
    Json,
    Limits,
    Lines,
    LinkError,
    ListenFailed,
    MsgPack,
    ProtocolViolation,
    Refused,
    ServerAR,
    ServerP2M,
    ServerP2P,
    Typed,
)
from linkbox.threaded.transport import Transport
from tests.threaded.helpers import PROMPT, Ear, Threads, core_of, dial, free_port, reset, wait_until


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def _exchange(server: ServerP2P[bytes], address: Any) -> None:
    with ClientP2P(address) as client:
        client.send(b"there").wait(timeout=5)
        assert server.data_get(5) == b"there"
        server.send(b"back")
        assert client.data_get(5) == b"back"


@pytest.mark.parametrize(
    "given", ["tcp://127.0.0.1:0", ("127.0.0.1", 0), "tcp://localhost:0", "tcp://127.0.0.9:0"]
)
def test_tcp_addresses(given: Any) -> None:
    with ServerP2P(given) as server:
        assert server.address.startswith("tcp://127.0.0.") or "[::1]" in server.address
        port = int(server.address.rpartition(":")[2])
        assert port > 0
        _exchange(server, server.address)


def test_a_name_that_is_resolved() -> None:
    with ServerP2P(("127.0.0.1", 0)) as server:
        _exchange(server, ("localhost", int(server.address.rpartition(":")[2])))


@pytest.mark.patches
def test_a_thread_that_resolves_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is resolved by a thread of its own: what is found is for the leader's next turn."""
    threads: list[str] = []
    turn_done = Transport.turn_done

    def noted(self: Transport, now: float) -> None:
        threads.append(threading.current_thread().name)
        turn_done(self, now)

    monkeypatch.setattr(Transport, "turn_done", noted)
    with ServerP2P(("127.0.0.1", 0)) as server:
        _exchange(server, ("localhost", int(server.address.rpartition(":")[2])))
    assert threads
    assert "linkbox resolve" not in threads


@pytest.mark.skipif(not _has_ipv6(), reason="there is no IPv6 here")
def test_ipv6() -> None:
    with ServerP2P("tcp://[::1]:0") as server:
        assert server.address.startswith("tcp://[::1]:")
        _exchange(server, server.address)
        with ClientP2P(server.address) as client:
            client.send(b"x").wait(timeout=5)
            assert server.peers()[0].address.startswith("tcp://[::1]:")


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    server = ServerP2P(f"unix://{path}")
    for _ in range(2):
        with server:
            assert server.address == f"unix://{path}"
            assert stat.S_ISSOCK(path.stat().st_mode)
            _exchange(server, server.address)
        assert not path.exists()
    with pytest.raises(ConnectFailed, match="no such socket"):
        ClientP2P(server.address, reconnect=None).start()


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with ServerP2P(f"unix://{path}") as server:
        _exchange(server, server.address)
        second = ServerP2P(f"unix://{path}")
        with pytest.raises(ListenFailed, match="in use"):
            second.start()
        second.stop()
        assert path.exists(), "a server that never listened removed another's socket"
        _exchange(server, server.address)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenFailed):
        ServerP2P(f"unix://{tmp_path}/file").start()
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="abstract sockets are a thing of Linux")
def test_an_abstract_unix_socket() -> None:
    with ServerP2P(f"unix:@linkbox-test-{os.getpid()}") as server:
        _exchange(server, server.address)


def test_a_listening_socket_that_is_handed_in() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ServerP2P(listener)
        for _ in range(2):
            with server:
                assert server.address.endswith(f":{listener.getsockname()[1]}")
                _exchange(server, server.address)
        assert listener.fileno() >= 0  # It is the caller's, and still open.
    with socket.socket() as not_listening, pytest.raises(AddressError, match="listen"):
        ServerP2P(not_listening)


def test_a_port_in_use() -> None:
    with ServerP2P("tcp://127.0.0.1:0") as server:
        for kind in (ServerP2P, ServerP2M, ServerAR):
            second = kind(server.address)
            with pytest.raises(ListenFailed, match="in use") as caught:
                second.start()
            assert server.address in str(caught.value)
            assert isinstance(caught.value, OSError)
        _exchange(server, server.address)
    with second:  # Once the port is free it starts.
        pass


def test_an_address_that_is_not_of_this_machine() -> None:
    with pytest.raises(ListenFailed):
        ServerP2P("tcp://192.0.2.1:9", insecure=True).start()
    with pytest.raises(ListenFailed, match="no such host name"):
        ServerP2P("tcp://no-such-host.invalid:9", insecure=True).start()
    with pytest.raises(ConnectFailed, match="host name"):
        ClientP2P("tcp://no-such-host.invalid:9", reconnect=None).start()


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:5", ("10.0.0.1", 80)]
)
@pytest.mark.parametrize("kind", [ServerP2P, ServerP2M, ServerAR])
def test_an_address_open_to_the_network_is_refused(kind: Any, address: Any) -> None:
    with pytest.raises(AddressError, match="insecure=True"):
        kind(address)
    kind(address, insecure=True)


def test_open_to_the_network_on_purpose() -> None:
    with ServerP2P("tcp://0.0.0.0:0", insecure=True) as server:
        _exchange(server, ("127.0.0.1", int(server.address.rpartition(":")[2])))


@pytest.mark.parametrize(
    "bad", ["", "nonsense", "tcp://", "tcp://127.0.0.1", "http://x:1", "tcp://h:99999", 7]
)
def test_bad_addresses(bad: Any) -> None:
    for kind in (ServerP2P, ServerP2M, ServerAR, ClientP2P, ClientP2M, ClientAR):
        with pytest.raises(AddressError):
            kind(bad)
    with pytest.raises(AddressError, match="port 0"):
        ClientP2P("tcp://127.0.0.1:0")


def test_nobody_is_listening() -> None:
    port = free_port()
    client = ClientP2P(("127.0.0.1", port), reconnect=None)
    with pytest.raises(ConnectFailed, match=str(port)) as caught:
        client.start()
    assert isinstance(caught.value, ConnectionError)
    began = time.monotonic()
    with pytest.raises(ConnectFailed):
        ClientP2P(("127.0.0.1", port), connect_timeout=0.3).start()
    assert time.monotonic() - began < PROMPT


def test_a_server_that_starts_a_moment_later_is_no_error() -> None:
    port = free_port()
    client = ClientP2P(("127.0.0.1", port))
    with Threads() as threads:
        threads.start(client.start)
        wait_until(
            lambda: (
                core_of(client) and core_of(client).conversation and core_of(client).conversation.last_failure
            )
        )
        with ServerP2P(("127.0.0.1", port)) as server:
            server.wait_connected(timeout=10)
            client.wait_connected(timeout=5)
            client.send(b"x").wait(timeout=5)
            client.stop()


def test_start_without_waiting() -> None:
    ear = Ear()
    with ServerP2P("tcp://127.0.0.1:0") as server:
        client = ClientP2P(server.address)
        client.add_callback(ear, EventKind.CONNECTED)
        assert client.start(wait=False) is client
        client.wait_connected(timeout=5)
        assert ear.wait().peer is client.peers()[0]
        client.send(b"x").wait(timeout=5)
        client.stop()
    lost = Ear()
    client = ClientP2P(("127.0.0.1", free_port()), reconnect=None)
    client.add_callback(lost, EventKind.ERROR)
    client.start(wait=False)
    assert isinstance(lost.wait().error, ConnectFailed)
    with pytest.raises(ConnectFailed):
        client.wait_connected(timeout=5)
    client.stop()


@pytest.mark.parametrize(
    ("server_format", "client_format", "fits"),
    [
        (Json, Bytes, False),
        (Bytes, Json, False),
        (Json, MsgPack, False),
        (Json, Typed(int), True),
        (Typed(int), Json, True),
    ],
)
def test_formats_that_differ(server_format: Any, client_format: Any, fits: bool) -> None:
    with ServerP2P("tcp://127.0.0.1:0", server_format) as server:
        client = ClientP2P(server.address, client_format)
        if fits:
            with client:
                client.send(1).wait(timeout=5)
            return
        began = time.monotonic()
        with pytest.raises(Refused) as caught:
            client.start()
        assert caught.value.code == "format"
        assert time.monotonic() - began < PROMPT, "a final refusal is not tried again"
        assert server.statistics().refused == 1


@pytest.mark.parametrize("server_kind", [ServerP2P, ServerP2M, ServerAR])
@pytest.mark.parametrize("client_kind", [ClientP2P, ClientP2M, ClientAR])
def test_patterns_that_differ(server_kind: Any, client_kind: Any) -> None:
    if server_kind.__name__.removeprefix("Server") == client_kind.__name__.removeprefix("Client"):
        pytest.skip("these two fit")
    with server_kind("tcp://127.0.0.1:0") as server:
        client = client_kind(server.address)
        calls = {ClientP2P: "start", ClientP2M: "send", ClientAR: "ask"}
        call = getattr(client, calls[client_kind])
        with pytest.raises(Refused) as caught:
            call(*([] if client_kind is ClientP2P else [b"x"]))
        assert caught.value.code == "pattern"
        client.stop()
        assert server.data_empty() and server.peers() == ()


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"\n",
    bytes(1000),
    b"\xff" * 100_000,
    b"LNKB",
    b"SSH-2.0-OpenSSH_9.6\r\n",
]


@pytest.fixture(params=["p2p", "p2m", "ar"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """A server, and a call of a well-behaved client that must go on working."""
    if request.param == "p2p":
        with ServerP2P("tcp://127.0.0.1:0") as p2p, ClientP2P(p2p.address) as talker:

            def use() -> None:
                talker.send(b"good").wait(timeout=5)
                assert p2p.data_get(5) == b"good"

            yield p2p, use
    elif request.param == "p2m":
        with ServerP2M("tcp://127.0.0.1:0") as p2m, ClientP2M(p2m.address) as pusher:

            def use() -> None:
                pusher.send(b"good", timeout=5)
                assert p2m.data_get(5) == b"good"

            yield p2m, use
    else:
        with (
            ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data) as ar,
            ClientAR(ar.address) as asker,
        ):

            def use() -> None:
                assert asker.ask(b"good", timeout=5) == b"good"

            yield ar, use


def test_strangers_disturb_nobody(served: tuple[Any, Any]) -> None:
    server, use = served
    use()
    for garbage in GARBAGE:
        with dial(server.address) as sock:
            sock.sendall(garbage)
            use()
            if len(garbage) > 8:
                try:
                    while sock.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        use()
    for _ in range(50):
        reset(dial(server.address))  # A port scan.
    use()
    wait_until(lambda: len(core_of(server).links.links) <= 1, "the strangers are gone")
    assert server.data_empty()


def test_a_flood_of_silent_connections_disturbs_nobody(served: tuple[Any, Any]) -> None:
    """Strangers that say nothing take the places of strangers only."""
    server, use = served
    use()
    strangers = [dial(server.address) for _ in range(60)]
    for _ in range(3):
        use()
    for sock in strangers:
        sock.close()
    use()


def test_the_handshake_has_a_deadline() -> None:
    with ServerP2P("tcp://127.0.0.1:0", limits=Limits(handshake=0.3)) as server:
        with dial(server.address) as sock:
            began = time.monotonic()
            while sock.recv(4096):
                pass
            assert 0.2 < time.monotonic() - began < PROMPT
        _exchange(server, server.address)


def test_a_server_that_says_nothing_or_nonsense() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ("127.0.0.1", listener.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(LinkError):
            ClientP2P(address, reconnect=None, limits=Limits(handshake=0.3)).start()
        assert time.monotonic() - began < PROMPT

        def answer_like_the_web() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    sock.settimeout(5)
                    try:
                        sock.recv(1000)
                        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    except OSError:
                        pass

        with Threads() as threads:
            threads.start(answer_like_the_web)
            with pytest.raises(ProtocolViolation):
                ClientP2P(address, reconnect=None).start()
            with ClientAR(address, reconnect=None) as asker, pytest.raises(LinkError):
                asker.ask(b"?", timeout=3)
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def test_a_client_that_never_reads_hinders_nobody() -> None:
    """Over Lines: its window fills up, broadcasts to it fail; the other peer notices nothing."""
    limits = Limits(window_messages=1000, window_bytes=1 << 20)
    with ServerP2P("tcp://127.0.0.1:0", framing=Lines, max_peers=2, limits=limits) as server:
        with dial(server.address) as silent, ClientP2P(server.address, framing=Lines) as good:
            server.wait_connected(2, timeout=5)
            line = b"x" * 10_000
            for number in range(2000):
                server.broadcast(line)
                assert good.data_get(5) == line, number
            good.send(b"and back")
            assert server.data_get(5) == b"and back"
            assert silent.recv(10) == b"x" * 10
        began = time.monotonic()
        server.stop(3)
        assert time.monotonic() - began < PROMPT


def test_stop_is_in_time_with_a_client_that_never_reads() -> None:
    with ServerP2P("tcp://127.0.0.1:0", framing=Lines) as server, dial(server.address) as silent:
        server.wait_connected(timeout=5)
        for _ in range(1000):
            server.send(b"x" * 10_000)
        began = time.monotonic()
        assert server.stop(0.5) is False
        assert time.monotonic() - began < PROMPT
        assert silent.fileno() > 0


def test_a_slow_reader_gets_everything() -> None:
    limits = Limits(window_bytes=100_000)
    with ServerP2P("tcp://127.0.0.1:0", framing=Lines, limits=limits) as server, dial(server.address) as sock:
        server.wait_connected(timeout=5)
        received, pause = bytearray(), threading.Event()

        def read() -> None:
            while data := sock.recv(3000):
                received.extend(data)
                pause.wait(0.001)  # It is slow.

        with Threads() as threads:
            threads.start(read)
            for number in range(3000):
                server.send(b"%d " % number + b"x" * 500)
            server.end()
        lines = bytes(received).split(b"\n")
        assert [int(line.split()[0]) for line in lines[:-1]] == list(range(3000))


def test_many_connections_at_once() -> None:
    """More at a time than may be unwelcomed: all get in, one after the other."""
    with (
        ServerAR("tcp://127.0.0.1:0", handler=lambda request: request.data) as server,
        ClientAR(server.address) as client,
        Threads() as threads,
    ):
        barrier = threading.Barrier(150)

        def ask(number: int) -> None:
            barrier.wait(10)
            assert client.ask(b"%d" % number) == b"%d" % number

        for number in range(150):
            threads.start(ask, number)


def test_a_dead_peer_is_noticed_by_its_silence() -> None:
    """No FIN, no RST: the relay swallows everything. The heartbeat finds out, on both sides."""
    from tests.threaded.helpers import Relay

    ears = Ear(), Ear()
    limits = Limits(heartbeat=0.2, peer_timeout=0.3)
    with ServerP2P("tcp://127.0.0.1:0", limits=limits) as server, Relay(server.address) as relay:
        client = ClientP2P(relay.address, limits=limits).start()
        server.add_callback(ears[0], EventKind.DISCONNECTED)
        client.add_callback(ears[1], EventKind.DISCONNECTED)
        server.wait_connected(timeout=5)
        threading.Event().wait(1)  # Heartbeats keep an idle link alive: it needs time to show.
        assert not ears[0].events and not ears[1].events
        relay.hold()
        for ear in ears:
            assert "no sign of life" in str(ear.wait(timeout=5).error)
        client.stop(0)


def test_who_waited_for_a_place_is_heard_when_it_gets_it() -> None:
    """A pushing client says all it has behind its HELLO, and no more until somebody waits for a receipt."""
    with ServerP2M("tcp://127.0.0.1:0", max_peers=1) as server:
        first = ClientP2M(server.address, linger=60)
        first.send(b"first")
        time.sleep(2.1)  # a peer that was heard of in the last two seconds is not asked whether it lives
        with ClientP2M(server.address, blocking=False) as second:
            second.send(b"second")
            wait_until(lambda: server.statistics().connections_total == 2, "it waits for the place")
            first.stop()
            assert [server.data_get(5) for _ in range(2)] == [b"first", b"second"]
