"""What an endpoint reports: events, peers, messages, stages and statistics."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from .text import LONGEST, printable

T = TypeVar("T")


class EventKind(enum.Enum):
    """The kinds of event. A callback is registered for one or more of them."""

    DATA = "data"
    """One message was stored in the mailbox (for ServerAR: one complete request)."""
    PART = "part"
    """One message of a request of several messages arrived; the request is not complete yet."""
    END = "end"
    """A peer ended its conversation; everything it sent before is in the mailbox."""
    CONNECTED = "connected"
    """A peer is connected: its handshake is complete."""
    DISCONNECTED = "disconnected"
    """The connection to a peer is closed; ``event.error`` says why, None after a graceful end."""
    RESUMED = "resumed"
    """A dropped connection is restored, and nothing was lost."""
    ERROR = "error"
    """Something failed; ``event.error`` says what, ``event.receipt`` belongs to the message, if any."""
    DELIVERED = "delivered"
    """The peer has acknowledged the message of ``event.receipt``."""
    OVERFLOW = "overflow"
    """The mailbox was full and a message was dropped (see ``overflow=``)."""

    # The default of Enum hashes the name with a Python function; events are looked up per message.
    if not TYPE_CHECKING:
        __hash__ = object.__hash__


class Stage(enum.IntEnum):
    """How far a sent message has come. A failed message compares as less than every other stage."""

    FAILED = -1
    """It will not arrive, or was rejected there; ``receipt.error`` says why."""
    QUEUED = 0
    """Accepted, not yet handed to the network."""
    SENT = 1
    """Handed to the network. Over a plain framing this is the last stage that is known."""
    RECEIVED = 2
    """In the peer's mailbox (with a store: on the peer's disk)."""
    TAKEN = 3
    """The peer's application has taken all of it."""

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(int(self) if spec[-1:] in ("d", "n", "x") else self.name, spec)


class Peer(msgspec.Struct, frozen=True, eq=False):
    """The other end of a conversation. The same object for as long as the peer's session exists."""

    name: str
    """The name that the peer gave itself; by default ``host:pid``. Over a plain framing, its address. A new
    one when the session is resumed with another name."""
    address: str
    """The address of the peer, as a URL. A new one when the session is resumed from elsewhere."""
    id: str
    """Unique for each conversation, 32 hexadecimal digits."""
    connected_at: float
    """Seconds since the epoch."""
    identity: str | None = None
    """Its authenticated name; None if the peer is unauthenticated."""

    def __str__(self) -> str:
        text = f"{self.name} ({self.address})"
        if len(text) <= LONGEST and text.isprintable():  # nearly always
            return text
        return f"{printable(self.name)} ({printable(self.address)})"


class PeerInfo(msgspec.Struct, frozen=True):
    """A peer that asks to connect: the argument of ``accept=`` of a server."""

    address: str
    """The address of the peer, as a URL."""
    name: str
    """The name that the peer gave itself. Over a plain framing, its address."""
    identity: str | None = None
    """Its authenticated name; None if the peer is unauthenticated. Only this field is proven."""


class Event(msgspec.Struct, frozen=True, eq=False):
    """The argument of a callback. It carries no data: take that from the mailbox."""

    kind: EventKind
    endpoint: Any
    """The endpoint that emitted the event."""
    peer: Peer | None = None
    error: Exception | None = None
    receipt: Any = None
    """Set for DELIVERED, and for ERROR if one message failed."""
    at: float = 0.0
    """Seconds since the epoch."""


Callback = Callable[[Event], object]


class Message(msgspec.Struct, Generic[T], eq=False):
    """One message with everything known about it. Returned by ``message_get()``."""

    data: T
    peer: Peer | None
    received_at: float
    """Seconds since the epoch."""
    redelivered: bool = False
    """True if a store delivers it again, after a crash between taking and ``ack()``."""
    receipt: Any = None
    """ClientAR: the receipt of the request that this responds to."""
    _ack: Callable[[], None] | None = None

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__[:-1])
        return f"Message({', '.join(shown)})"

    def ack(self) -> None:
        """Mark the message as taken, after ``message_get(ack=False)``. Further calls do nothing.

        It has no effect after ``stop()``: with a store, the next start delivers the message again.
        """
        done, self._ack = self._ack, None
        if done is not None:
            done()


class EndpointState(enum.Enum):
    """What an endpoint is doing: ``endpoint.state``."""

    NEW = "new"
    """Not started yet."""
    LISTENING = "listening"
    """A server that accepts connections."""
    CONNECTING = "connecting"
    """A client without a connection that tries to get one, or waits for its next attempt."""
    CONNECTED = "connected"
    """A client with a connection."""
    IDLE = "idle"
    """A started ClientAR or ClientP2M that has nothing to send: the next message connects."""
    ENDED = "ended"
    """A client whose conversation is over."""
    STOPPING = "stopping"
    """``stop()`` is in progress."""
    STOPPED = "stopped"
    """``stop()`` has returned."""


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of many times, in seconds. Each is rounded up, by a factor of two at most."""

    count: int
    p50: float
    """Half of the times are at most this."""
    p99: float
    """99 % of the times are at most this."""


class PeerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts for one peer, since its conversation began."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    unacknowledged: int
    """Messages that are sent or queued and not acknowledged yet."""
    waiting: int
    """Messages of this peer in the mailbox."""
    round_trip: float | None
    """Seconds, measured by the last heartbeat; None before the first one."""
    silence: float = 0.0
    """Seconds since anything arrived from the peer, heartbeats included."""
    mailbox_share: float = 0.0
    """How full its part of the mailbox is: 1.0 is the limit (`Limits.mailbox_bytes`, `mailbox_messages`)."""
    window_share: float = 0.0
    """How full the send window is: at 1.0, ``send()`` waits (`Limits.window_bytes`, `window_messages`)."""
    waits_for: str = ""
    """What keeps messages from moving, as a text for people; empty if nothing does."""


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the counters of an endpoint, since its construction. Bytes are message payloads."""

    messages_sent: int
    messages_received: int
    bytes_sent: int
    bytes_received: int
    waiting: int
    """Messages in the mailbox."""
    waiting_bytes: int
    """The bytes of their payloads; for other formats than Bytes, the memory that their values take."""
    dropped: int
    """Messages dropped by the overflow policy."""
    rejected: int
    """Messages that could not be decoded, or were too large, and bad frames of a plain framing."""
    skipped: int
    """Messages that the format has dropped with `Skip`."""
    callback_errors: int
    errors: int
    """Exceptions in callbacks, handlers, ``accept=`` and in the loops of this endpoint, which go on."""
    events_dropped: int
    """Events of connections that were dropped because 10,000 waited behind a callback that blocks."""
    connections: int
    """Connections that are open now."""
    connections_total: int
    refused: int
    """Connections rejected by this server, or rejections that this client received."""
    reconnects: int
    peers: Mapping[Peer, PeerStatistics]
    attempts: int = 0
    """Attempts of a client to connect, the successful ones included."""
    last_error: Exception | None = None
    """The most recent connection error, or None."""
    last_error_at: float | None = None
    """When that was, in seconds since the epoch."""
    errors_by_kind: Mapping[str, int] = msgspec.field(default_factory=dict)
    """How often each kind of error has happened: connection errors by their class, such as ``"PeerLost"`` or
    ``"Refused: busy"``, and the exceptions counted in ``errors`` by what has raised them."""
    mailbox_share: float = 0.0
    """How full the mailbox is, for the peer that has the most in it: 1.0 is a limit."""
    window_share: float = 0.0
    """How full the send window is, for the peer that has the most in it: 1.0 is a limit."""
    round_trips: Percentiles | None = None
    """The round-trip times of heartbeats; None before the first one."""
    answer_times: Percentiles | None = None
    """ClientAR: from request to response; None before the first response."""
    waits_for: str = ""
    """What keeps messages from moving, as a text for people; empty if nothing does."""
