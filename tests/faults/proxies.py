"""Connections that a proxy makes for its clients."""

from __future__ import annotations

import socket

from tests.faults.place import Place
from tests.threaded.helpers import dial


def from_proxy(place: Place, address: str, header: bytes, step: int = 4096) -> socket.socket:
    """A connection of a proxy, which sends the header before anything else."""
    sock = dial(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(header), step):
        sock.sendall(header[at : at + step])
    if place.transport.name == "tls":
        from tests.faults.secure import shake_hands

        return shake_hands(sock)
    return sock
