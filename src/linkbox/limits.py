"""What an endpoint puts up with: every limit, with its unit and its default."""

from __future__ import annotations

from dataclasses import dataclass, fields

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on memory and time, all on by default. Sizes are bytes, times are seconds.

    Both ends tell each other their ``message`` limit, so that what the other side cannot take is
    refused by ``send()`` with `TooLarge` before anything is sent.
    """

    message: int = 16 * _MIB
    """Largest message, encoded."""
    handshake: float = 5.0
    """From the TCP connection to the welcome."""
    unwelcomed: int = 100
    """Connections of a server that have not finished their handshake."""
    unwelcomed_per_ip: int = 20
    """The same from one IP address (loopback and unix sockets are exempt)."""
    connections: int = 10_000
    """Connections of a server in all; also never more than 80 % of the process's descriptors."""
    heartbeat: float = 20.0
    """Silence after which the peer is asked for a sign of life."""
    peer_timeout: float = 20.0
    """Further silence after which the peer is declared lost."""
    progress: float = 30.0
    """A message that has begun to arrive must be whole by then; of one over 1 MiB, each piece."""
    stalled_write: float = 40.0
    """The peer's kernel took not one byte for so long: it is declared lost."""
    mailbox_bytes: int = 16 * _MIB
    """Waiting in the mailbox, from one peer."""
    mailbox_messages: int = 100_000
    """Waiting in the mailbox, from one peer."""
    mailbox_total: int = 256 * _MIB
    """Waiting in the mailbox, from all peers together; as much again in asks that are not whole yet."""
    window_bytes: int = 16 * _MIB
    """Sent to one peer and not yet acknowledged. Beyond it ``send()`` waits."""
    window_messages: int = 100_000
    """The same, in messages."""
    control_frames: int = 1_000
    """Control frames owed to a peer that does not read; more closes the link."""
    asks: int = 1_000
    """Asks of one client that are waiting for their answer."""
    session: float = 3600.0
    """How long a dropped session is kept for its peer to come back."""
    sessions: int = 10_000
    """Dropped sessions kept."""
    stored_session: float = 7 * 86400.0
    """How long a server with a store keeps a dropped session for its peer to come back."""
    store_bytes: int = 1024 * _MIB
    """Messages in a store that are not delivered yet. Beyond it ``send()`` raises `StoreError`."""
    close: float = 5.0
    """For the last bytes of an ordered close."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
                raise ValueError(f"Limits({field.name}={value!r}): a number above 0 is needed")
            if field.type == "int" and not isinstance(value, int):
                raise ValueError(f"Limits({field.name}={value!r}): a whole number is needed")
