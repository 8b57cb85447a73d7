"""The limits of an endpoint, each with its unit and its default."""

from __future__ import annotations

import msgspec

_MIB = 1024 * 1024
NAME_CHARACTERS = 256
"""Most characters of the name of an endpoint: the name is part of the handshake."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on memory and time, all on by default. Sizes are bytes, times are seconds.

    The two ends exchange their ``message`` limits in the handshake: ``send()`` raises `TooLarge` for a
    message that the peer does not accept, before anything is sent.
    """

    message: int = 16 * _MIB
    """The largest message, encoded."""
    decoded: int = 64 * _MIB
    """What one received message may cost to decode: bytes of memory, estimated before it is decoded."""
    handshake: float = 5.0
    """From the TCP connection to the end of the handshake."""
    unwelcomed: int = 1000
    """Connections of a server that have not finished their handshake, at a time."""
    unwelcomed_per_ip: int = 20
    """The same from one IP address (loopback and unix sockets are exempt)."""
    connections: int = 10_000
    """Connections of a server at a time; in any case at most 80 % of the file descriptors of the process."""
    heartbeat: float = 20.0
    """Silence after which the endpoint sends a ping."""
    peer_timeout: float = 20.0
    """Further silence after which the peer is declared lost."""
    progress: float = 30.0
    """Time for a message that has begun to arrive to be complete; over 1 MiB, for each piece of it."""
    stalled_write: float = 40.0
    """Time without a single byte written to the peer, after which the peer is declared lost."""
    mailbox_bytes: int = 16 * _MIB
    """In the mailbox, from one peer: the memory that its messages take."""
    mailbox_messages: int = 100_000
    """In the mailbox, from one peer."""
    mailbox_total: int = 256 * _MIB
    """In the mailbox, from all peers; requests that are not complete yet may take as much again."""
    window_bytes: int = 16 * _MIB
    """Sent to one peer and not acknowledged yet. When it is reached, ``send()`` waits."""
    window_messages: int = 100_000
    """The same, in messages."""
    control_frames: int = 1_000
    """Control frames that wait for a peer that does not read; more close the connection."""
    asks: int = 1_000
    """Requests of one client that wait for their response."""
    session: float = 3600.0
    """How long the session of a disconnected peer is kept for its return."""
    sessions: int = 10_000
    """Sessions of disconnected peers that are kept."""
    stored_session: float = 7 * 86400.0
    """How long a server with a store keeps the session of a disconnected peer for its return."""
    store_bytes: int = 1024 * _MIB
    """Undelivered messages in a store. When it is reached, ``send()`` raises `StoreError`."""
    close: float = 5.0
    """For the last bytes of a graceful close."""

    def __post_init__(self) -> None:
        for name, kind in Limits.__annotations__.items():
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
                raise ValueError(f"Limits({name}={value!r}): it must be a number above 0")
            if kind == "int" and not isinstance(value, int):
                raise ValueError(f"Limits({name}={value!r}): it must be a whole number")
