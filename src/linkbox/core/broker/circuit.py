"""A circuit: a stream of bytes in both directions, carried by the messages of a broker.

A broker carries single messages to a subject. It has no connection between two of its clients, and does not
report that one of them is gone. A circuit is the replacement: each end has a subject of its own, and
sends *packets* to that of the other. A packet is a flag (1 byte), a number (4 bytes, big-endian, from 0, of
this direction) and a body:

====== ======================================== ===========================================================
flag   sent by                                  body
====== ======================================== ===========================================================
OPEN   the client, to the subject of the name   nothing
ACCEPT the server, its first packet             its own subject, and the subject of this circuit; a space
DATA   both                                     bytes of the stream
FIN    both, once everything is sent            nothing: this direction has ended
RST    both                                     nothing: the circuit is unknown, or broken; not numbered
PROBE  both, while the other is silent          nothing; not numbered, and nothing answers it
====== ======================================== ===========================================================

Every packet has a subject for replies, where the broker reports that nobody receives it any more. Packets of
one sender arrive in order, but some may be missing: a gap in the numbers breaks the circuit, as a reset
breaks a TCP connection, and the session resumes on another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from linkbox.core.broker.subjects import is_inbox
from linkbox.core.connection import Buffer

DATA: Final = 0
OPEN: Final = 1
ACCEPT: Final = 2
FIN: Final = 4
RST: Final = 8
PROBE: Final = 16
HEADER: Final = 5
"""Bytes before the body of a packet."""
LARGEST: Final = 512 * 1024
"""Most bytes in the body of a packet, unless the broker accepts less."""
NUMBERS: Final = 1 << 32
RST_PACKET: Final = bytes((RST,)) + bytes(4)
PROBE_PACKET: Final = bytes((PROBE,)) + bytes(4)


class CircuitBroken(ConnectionResetError):
    """A packet shows that the circuit is broken."""


class Circuit:
    """The numbers of one circuit, at one end."""

    __slots__ = ("most", "received", "sent")

    def __init__(self, most: int = LARGEST) -> None:
        self.most: int = min(most, LARGEST)
        """Most bytes in the body of a packet."""
        self.sent: int = 0
        self.received: int = 0

    def packet(self, flag: int, body: Buffer = b"") -> bytes:
        """The next packet to send."""
        number = self.sent
        self.sent += 1
        return bytes((flag,)) + (number % NUMBERS).to_bytes(4, "big") + bytes(body)

    def packets(self, buffers: Sequence[Buffer]) -> list[bytes]:
        """The packets that carry these bytes."""
        data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        return [self.packet(DATA, data[at : at + self.most]) for at in range(0, len(data), self.most)]

    def receive(self, packet: bytes) -> tuple[int, bytes]:
        """Return flag and body of a packet. Raises `CircuitBroken`: then forget the circuit."""
        if len(packet) < HEADER:
            raise CircuitBroken(f"a packet of {len(packet)} bytes is none of linkbox")
        flag, number = packet[0], int.from_bytes(packet[1:HEADER], "big")
        if flag == PROBE:
            return flag, b""
        if flag == RST:
            raise CircuitBroken("the peer has closed the circuit")
        if number != self.received % NUMBERS:
            raise CircuitBroken(f"packet {number} has arrived instead of {self.received % NUMBERS}")
        self.received += 1
        return flag, packet[HEADER:]


def accept_body(home: str, inbox: str) -> bytes:
    """The body of ACCEPT: where this very server is dialled again, and where packets of the circuit go."""
    return f"{home} {inbox}".encode()


def read_accept(body: bytes) -> tuple[str, str]:
    """The two subjects in the body of ACCEPT. Raises `CircuitBroken`."""
    subjects = body.decode("ascii", "replace").split(" ")
    if len(subjects) != 2 or not all(map(is_inbox, subjects)):
        raise CircuitBroken("the server has accepted the circuit without the subjects of its own")
    return subjects[0], subjects[1]
