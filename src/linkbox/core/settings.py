"""The settings of an endpoint's core, and its counters."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from linkbox.core.histogram import Histogram
from linkbox.core.outgoing import MessageType
from linkbox.core.patterns import Pattern
from linkbox.core.values import Value
from linkbox.core.wire.authentication import Lookup
from linkbox.core.wire.framing import Framing, PlainFraming
from linkbox.dialogue import Dialogue
from linkbox.errors import Refused
from linkbox.limits import Limits

_CODES = frozenset(
    "busy limit later format pattern version session denied protocol disconnected authentication".split()
)


def nobody_listens(level: str) -> bool:
    """Nobody reads the log lines of the core."""
    return False


class Counters:
    """Totals of an endpoint, kept over ``stop()`` and ``start()``."""

    def __init__(self) -> None:
        self.messages_sent: int = 0
        self.messages_received: int = 0
        self.bytes_sent: int = 0
        self.bytes_received: int = 0
        self.rejected: int = 0
        self.skipped: int = 0
        self.callback_errors: int = 0
        self.errors: int = 0
        self.events_dropped: int = 0
        self.connections: int = 0
        self.conversations: int = 0
        self.refused: int = 0
        self.reconnects: int = 0
        self.attempts: int = 0
        self.last_error: Exception | None = None
        """The most recent connection error."""
        self.last_error_at: float = 0.0
        """Seconds since the epoch."""
        self.errors_by_kind: dict[str, int] = {}
        self.round_trips: Histogram = Histogram()
        self.answer_times: Histogram = Histogram()

    def failed(self, error: Exception, at: float) -> None:
        """Count a connection error, once: it may be reported by the connection and by its session."""
        if error is not self.last_error:
            self.last_error, self.last_error_at = error, at
            self.count(kind_of(error))

    def count(self, kind: str) -> None:
        """Count an error of this kind."""
        self.errors_by_kind[kind] = self.errors_by_kind.get(kind, 0) + 1


def kind_of(error: Exception) -> str:
    """The kind of a connection error: its class, and the code of a refusal. Peers cannot make new kinds."""
    name = type(error).__name__
    return f"{name}: {error.code}" if isinstance(error, Refused) and error.code in _CODES else name


class Settings(msgspec.Struct):
    """The options of an endpoint that the core needs."""

    pattern: Pattern
    format_name: str
    framing: Framing
    limits: Limits
    name: str
    receipts: MessageType
    """The receipt class of the front end."""
    entropy: Callable[[int], bytes]
    """Returns the given number of random bytes."""
    wall: float = 0.0
    """Add this to ``now`` to get seconds since the epoch."""
    secrets: Lookup | None = None
    """Returns the secrets of a peer by its name; None: no secret is required."""
    identifies: bool = False
    """Does each secret belong to one peer only, so that it authenticates the name of the peer?"""
    secure: bool = False
    """Is TLS used? Then each link waits for `Connection.secured`."""
    keep_alive: bool = True
    """A server of requests with a plain framing: does a connection stay open after a response?"""
    connections: int = 0
    """A client of requests with a plain framing: connections that are open at a time; 0: any number."""
    comes_back: bool = False
    """A client of P2P with a plain framing: does it connect again after the end of a connection?"""
    dialogue: Dialogue | None = None
    """AR with a plain framing: how requests and responses follow each other."""
    responses: PlainFraming | None = None
    """The same for a client: the framing of what arrives, if it is another one."""
    greeting: bytes | None = None
    """The same for a server: the first message to each client, encoded."""
    idle_timeout: float | None = None
    """With a plain framing: seconds after which a peer that sends nothing is lost; None: never."""
    half_close: float = 0.0
    """A server of P2P with a plain framing: seconds in which a peer that has ended can be sent to."""
    newest_wins: bool = False
    """The same, also of P2M: when all slots are in use, does a new connection get that of an older one from
    the same host?"""
    encode: Callable[[Value], bytes] | None = None
    """Encodes a value and checks the result, for `Dialogue.on_error`."""
    decodes: bool = True
    """Must the driver decode messages? Else they are the bytes that arrived, and stored at once."""
    asks_first: bool = False
    """Does the application decide on each connection (``accept=``)?"""
    counters: Counters = msgspec.field(default_factory=Counters)
    area: str = ""
    """The area of the log lines of the endpoint."""
    is_logged: Callable[[str], bool] = nobody_listens
    """Does anybody read log lines of this level ("debug", "info")?"""
