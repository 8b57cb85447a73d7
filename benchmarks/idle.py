"""A process full of idle links: ``python -m benchmarks.idle ADDRESS COUNT``; ends when its parent ends it."""

from __future__ import annotations

import socket
import sys
import uuid

from linkbox.address import Address
from linkbox.core import frames, handshake


def hello() -> bytes:
    """What a client that wants nothing says."""
    message = handshake.Hello(
        pattern="p2p",
        format="bytes",
        name="idle",
        session=uuid.uuid4().hex,
        epoch=1,
        credit=(1 << 20, 1000),
        message=1 << 20,
        received=0,
        resumes=False,
    )
    return frames.preface() + handshake.encode(message)


def main(url: str, count: int) -> None:
    """Open so many links, and hold them."""
    address = Address.parse(url)
    links = []
    for _ in range(count):
        sock = socket.create_connection((address.host, address.port))
        sock.sendall(hello())
        assert sock.recv(65536)
        links.append(sock)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
