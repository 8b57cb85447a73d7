"""accept= on the threaded servers: it is user code, and only newcomers wait for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from linkbox import ClientP2M, ClientP2P, Json, Limits, Lines, PeerInfo, Refused, ServerP2M, ServerP2P
from tests.threaded.helpers import Threads, dial, read_all, wait_until


def test_by_name_and_address() -> None:
    asked: list[PeerInfo] = []

    def accept(info: PeerInfo) -> bool:
        asked.append(info)
        return info.name == "pump"

    with ServerP2M("tcp://127.0.0.1:0", Json, accept=accept) as server:
        with ClientP2M(server.address, Json, name="pump") as client:
            client.send(1)
        with (
            ClientP2M(server.address, Json, name="valve") as client,
            pytest.raises(Refused, match="rejected by the server's accept=") as caught,
        ):
            client.send(2)
        assert caught.value.code == "denied"
        assert server.data_get_all() == [1]
    assert [info.name for info in asked] == ["pump", "valve"]
    assert all(info.address.startswith("tcp://127.0.0.1:") and info.identity is None for info in asked)


@pytest.mark.usefixtures("may_log_errors")
def test_one_that_raises_lets_nobody_in_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def accept(info: PeerInfo) -> bool:
        if info.name == "exit":
            raise SystemExit
        return bool({"good": True}[info.name])

    with ServerP2P("tcp://127.0.0.1:0", Json, accept=accept, max_peers=3) as server:
        for name in ("bad", "exit"):
            with pytest.raises(Refused, match="rejected by the server's accept="):
                ClientP2P(server.address, Json, name=name).start()
        with ClientP2P(server.address, Json, name="good") as client:
            client.send("still here")
            assert server.data_get(10) == "still here"
    assert "KeyError: 'bad'" in caplog.text
    assert "which is rejected" in caplog.text


def test_while_it_blocks_only_newcomers_wait() -> None:
    """Each for the time of a handshake at most; nobody who is there notices anything."""
    gate, began = threading.Event(), threading.Event()

    def accept(info: PeerInfo) -> bool:
        if info.name == "slow":
            began.set()
            gate.wait(30)
        return True

    limits = Limits(handshake=0.5)
    with ServerP2P("tcp://127.0.0.1:0", Json, accept=accept, max_peers=3, limits=limits) as server:
        with ClientP2P(server.address, Json, name="first") as first, Threads() as threads:

            def late() -> None:
                with pytest.raises(ConnectionError):
                    ClientP2P(server.address, Json, name="slow", reconnect=None).start()

            threads.start(late)
            assert began.wait(10)
            for number in range(100):
                first.send(number)
                assert server.data_get(10) == number
            threads.join()
            gate.set()
            with ClientP2P(server.address, Json, name="after") as after:
                after.send("in")
                assert server.data_get(10) == "in"
        assert {peer.name for peer in server.peers()} <= {"first", "after"}


def test_stop_while_it_blocks() -> None:
    gate, began = threading.Event(), threading.Event()

    def accept(info: PeerInfo) -> bool:
        began.set()
        gate.wait(30)
        return True

    server = ServerP2P("tcp://127.0.0.1:0", accept=accept).start()
    client = ClientP2P(server.address, reconnect=None).start(wait=False)
    assert began.wait(10)
    server.stop(timeout=1)
    gate.set()
    client.stop(timeout=1)


def test_over_a_plain_framing_what_is_said_early_is_kept() -> None:
    gate = threading.Event()

    def accept(info: PeerInfo) -> bool:
        gate.wait(30)
        return info.name == info.address

    server = ServerP2P("tcp://127.0.0.1:0", framing=Lines(), accept=accept)
    with server, dial(server.address) as sock:
        sock.sendall(b"one\ntwo\n" * 1000)
        assert not server.peers()
        gate.set()
        for expected in [b"one", b"two"] * 1000:
            assert server.data_get(10) == expected


def test_a_no_over_a_plain_framing_hangs_up() -> None:
    def accept(info: PeerInfo) -> Any:
        return None

    with ServerP2P("tcp://127.0.0.1:0", framing=Lines(), accept=accept) as server:
        with dial(server.address) as sock:
            assert read_all(sock) == b""
        wait_until(lambda: server.statistics().refused == 1)
        assert not server.peers()
