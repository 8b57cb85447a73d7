"""What an endpoint tells: events, peers, messages, stages and statistics."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class EventKind(enum.Enum):
    """What happened. A callback is registered for one or more of these."""

    DATA = "data"
    """One message was stored in the mailbox (for ServerAR: one whole ask)."""
    PART = "part"
    """One message of an ask of several messages arrived; the ask is not whole yet."""
    END = "end"
    """A peer ended its conversation, and all it sent before is in the mailbox."""
    CONNECTED = "connected"
    """A peer is there (welcomed, not merely connected)."""
    DISCONNECTED = "disconnected"
    """A peer's link is gone; ``event.error`` says why, None after an orderly end."""
    RESUMED = "resumed"
    """A dropped link is back, nothing was lost."""
    ERROR = "error"
    """Something failed; ``event.error`` says what, ``event.receipt`` whose message it was, if any."""
    DELIVERED = "delivered"
    """The peer has acknowledged the message of ``event.receipt``."""
    OVERFLOW = "overflow"
    """The mailbox was full and a message was dropped (see ``overflow=``)."""

    # The default of Enum hashes the name with a Python function; events are looked up per message.
    __hash__ = object.__hash__


class Stage(enum.IntEnum):
    """How far a sent message has come."""

    QUEUED = 0
    """Accepted, not yet handed to the network."""
    SENT = 1
    """Handed to the network. Over a plain framing nothing further is ever known."""
    RECEIVED = 2
    """In the peer's mailbox (with a store: on the peer's disk)."""
    TAKEN = 3
    """The peer's application has taken all of it."""
    FAILED = 4
    """It will not get there, or was rejected there; ``receipt.error`` says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """Who is on the other end. The same object for as long as the peer's session lives."""

    name: str
    """What the peer calls itself; by default ``host:pid``. Over a plain framing, its address."""
    address: str
    """Where it comes from, as a URL."""
    id: str
    """Unique for each conversation, 32 hexadecimal digits."""
    connected_at: float
    """Seconds since the epoch."""
    identity: str | None = None
    """Its authenticated name; None when nothing was authenticated."""

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Who asks to be let in: what ``accept=`` of a server decides on."""

    address: str
    """Where it comes from, as a URL."""
    name: str
    """What it calls itself. Over a plain framing, its address."""
    identity: str | None = None
    """Its authenticated name; None when nothing was authenticated. Only this is proven."""


class Event(msgspec.Struct, frozen=True, eq=False):
    """What a callback is called with. It carries no data: that is in the mailbox."""

    kind: EventKind
    endpoint: Any
    """The endpoint it happened on."""
    peer: Peer | None = None
    error: Exception | None = None
    receipt: Any = None
    """For DELIVERED, and for ERROR when one message failed."""
    at: float = 0.0
    """Seconds since the epoch."""


Callback = Callable[[Event], object]


@dataclass(slots=True, eq=False)
class Message(Generic[T]):
    """One message with all that is known of it. From ``message_get()``."""

    data: T
    peer: Peer | None
    received_at: float
    """Seconds since the epoch."""
    redelivered: bool = False
    """True when a store delivers it again, after a crash between taking and finishing."""
    receipt: Any = None
    """ClientAR: the receipt of the ask that this answers."""
    _ack: Callable[[], None] | None = field(default=None, repr=False)

    def ack(self) -> None:
        """Count the message as taken, after ``message_get(ack=False)``. Further calls do nothing."""
        done, self._ack = self._ack, None
        if done is not None:
            done()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatistics:
    """Counts for one peer, since its conversation began."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    unacknowledged: int
    """Messages sent or queued, and not acknowledged yet."""
    waiting: int
    """Its messages in our mailbox."""
    round_trip: float | None
    """Seconds, of the last heartbeat; None when there was none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of an endpoint's counters, since it was made. Bytes are message bodies."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    waiting: int
    """Messages in the mailbox."""
    waiting_bytes: int
    dropped: int
    """Messages dropped by the overflow policy."""
    rejected: int
    """Messages that could not be decoded, or were too large."""
    callback_errors: int
    connections: int
    """Links that are up now."""
    connections_total: int
    refused: int
    """Peers turned away (server), or refusals met (client)."""
    reconnects: int
    peers: Mapping[Peer, PeerStatistics]
