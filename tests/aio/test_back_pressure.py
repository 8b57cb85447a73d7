"""A peer that reads slowly, or not at all: what asyncio buffers for it stays small, and is watched."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from linkbox import EventKind, Limits, Lines, MailboxFull
from linkbox.aio import ClientP2P, ServerP2P
from tests.conformance.fronts import Ear
from tests.threaded.helpers import Relay

ANY = "tcp://127.0.0.1:0"


async def _send_for_ever(server: Any) -> None:
    while True:
        await server.send(bytes(1 << 20), timeout=0.05)


def test_a_peer_that_never_reads_is_given_up() -> None:
    """Also when several buffers go out in one write, as with a header and a large body."""
    ear = Ear()

    async def main() -> None:
        async with ServerP2P(ANY, limits=Limits(stalled_write=0.3)) as server:
            server.add_callback(ear, EventKind.DISCONNECTED)
            with Relay(server.address) as relay:
                async with ClientP2P(relay.address):
                    await server.wait_connected(timeout=5)
                    relay.hold("down")
                    with pytest.raises(MailboxFull):
                        await _send_for_ever(server)
                    event = await ear.wait(EventKind.DISCONNECTED)
                    assert "took nothing for 0.3 s" in str(event.error)

    asyncio.run(main())


def test_a_peer_that_reads_slowly_is_not_given_up() -> None:
    """One large write takes much longer than ``stalled_write``; but something of it moves all the time."""
    size = 12 << 20

    async def main() -> None:
        limits = Limits(stalled_write=2.0, message=size, window_bytes=size)
        async with ServerP2P(ANY, framing=Lines, limits=limits) as server:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
                sock.connect(("127.0.0.1", int(server.address.rpartition(":")[2])))
                await server.wait_connected(timeout=5)
                await server.send(b"x" * size)
                sock.setblocking(False)
                received = 0
                while received <= size:
                    await asyncio.sleep(0.1)  # It is slow.
                    data = await asyncio.get_running_loop().sock_recv(sock, 1 << 18)
                    assert data, received
                    received += len(data)

    asyncio.run(main())
