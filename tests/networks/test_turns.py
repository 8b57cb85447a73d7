"""One turn reads a bounded number of bytes from all connections together: busy peers do not delay others."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from linkbox.address import Address
from linkbox.networks.poller import READ
from linkbox.networks.sockets import FAIR_READ, LARGE_READ, TURN_SIZE
from linkbox.networks.sockets_aio import AioSockets, Protocol
from linkbox.networks.sockets_aio import Connection as AioConnection
from linkbox.networks.sockets_threaded import READ_SIZE, Connection, ThreadedSockets

EVENTS: Any = None
LINK: Any = SimpleNamespace(eof=False, is_behind=False)
MANY = TURN_SIZE // READ_SIZE + 2


@pytest.mark.patches
def test_the_leader_reads_less_from_those_that_come_late() -> None:
    network = ThreadedSockets(EVENTS, Address.parse("tcp://127.0.0.1:9"), threading.RLock(), None)
    with ExitStack() as stack:
        stack.callback(network.poller.close)
        for _ in range(MANY):
            ours, theirs = map(stack.enter_context, socket.socketpair())
            theirs.send(bytes(2 * READ_SIZE))
            network.poller.watch(ours.fileno(), READ, False)
            network._connections[ours.fileno()] = Connection(network, ours, LINK, None)
        network.read(0)
        sizes = sorted(len(each.received) for each in network._read)  # type: ignore[arg-type]
    assert sizes == [FAIR_READ] * 2 + [READ_SIZE] * (MANY - 2)


def test_asyncio_reads_less_from_those_that_come_late() -> None:
    async def main() -> None:
        network = AioSockets(EVENTS, Address.parse("tcp://127.0.0.1:9"), None)
        closed: Any = SimpleNamespace(network=network, link=SimpleNamespace(closed=True), tls=None)
        protocol = Protocol(closed)
        for _ in range(2):
            assert len(protocol.get_buffer(-1)) == LARGE_READ
            protocol.buffer_updated(FAIR_READ)  # small reads do not count
            protocol.buffer_updated(TURN_SIZE - FAIR_READ)
            assert len(protocol.get_buffer(-1)) == LARGE_READ
            protocol.buffer_updated(FAIR_READ + 1)
            assert len(protocol.get_buffer(-1)) == FAIR_READ
            await asyncio.sleep(0)  # the next turn of the loop

    asyncio.run(main())


@pytest.mark.patches
def test_the_leader_does_not_read_what_a_link_cannot_process_yet() -> None:
    network = ThreadedSockets(EVENTS, Address.parse("tcp://127.0.0.1:9"), threading.RLock(), None)
    with ExitStack() as stack:
        stack.callback(network.poller.close)
        ours, theirs = map(stack.enter_context, socket.socketpair())
        theirs.send(b"x")
        network.poller.watch(ours.fileno(), READ, False)
        link: Any = SimpleNamespace(eof=False, paused=False, closed=False, is_behind=True)
        connection = Connection(network, ours, link, None)
        network._connections[ours.fileno()] = connection
        network.read(0)
        assert connection.received is None
        network._others.clear()
        connection._set_mask()
        network.read(0)
        assert not network._others  # not even looked at
        link.is_behind = False
        connection._set_mask()
        network.read(0)
        assert connection.received == b"x"


@pytest.mark.patches
def test_asyncio_does_not_read_what_a_link_cannot_process_yet() -> None:
    calls: list[str] = []
    transport: Any = SimpleNamespace(
        is_closing=lambda: False,
        pause_reading=lambda: calls.append("pause"),
        resume_reading=lambda: calls.append("resume"),
    )
    link: Any = SimpleNamespace(
        eof=False, paused=False, closed=False, shut=True, half_close=False, is_behind=True
    )
    network: Any = SimpleNamespace(now=lambda: 0.0, events=EVENTS)
    connection = AioConnection(network, link, Any, None)  # type: ignore[arg-type]
    connection._transport = transport
    connection.flush()
    connection.flush()
    link.is_behind = False
    connection.flush()
    assert calls == ["pause", "resume"]
