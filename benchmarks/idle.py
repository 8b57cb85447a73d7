"""A process full of idle links: ``python -m benchmarks.idle ADDRESS COUNT``; ends when its parent ends it."""

from __future__ import annotations

import socket
import sys
import uuid

from linkbox.address import Address
from linkbox.core.wire import frames
from linkbox.core.wire import handshake_messages as handshake


def hello(pattern: str) -> bytes:
    """What a client says first."""
    message = handshake.Hello(
        pattern=pattern,
        format="bytes",
        name="bare",
        session=uuid.uuid4().hex,
        epoch=1,
        credit=(1 << 20, 1000),
        message=1 << 20,
        received=0,
        resumes=False,
    )
    return frames.preface() + handshake.encode_hello(message)


def open_links(url: str, count: int, pattern: str) -> list[socket.socket]:
    """So many links, welcomed, on bare sockets."""
    address = Address.parse(url)
    links = []
    for _ in range(count):
        sock = socket.create_connection((address.host, address.port))
        sock.sendall(hello(pattern))
        assert sock.recv(65536)
        links.append(sock)
    return links


if __name__ == "__main__":
    held = open_links(sys.argv[1], int(sys.argv[2]), "p2p")
    sys.stdin.read()
