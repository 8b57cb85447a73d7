"""What the core of an endpoint is made with, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from linkbox.core.outgoing import MessageType
from linkbox.core.patterns import Pattern
from linkbox.core.wire.authentication import Lookup
from linkbox.core.wire.framings import Framing
from linkbox.limits import Limits


@dataclass(slots=True)
class Counters:
    """Sums over the whole life of an endpoint, restarts included."""

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    rejected: int = 0
    callback_errors: int = 0
    connections: int = 0
    refused: int = 0
    reconnects: int = 0


@dataclass(slots=True)
class Settings:
    """The options of an endpoint, as far as the core needs them."""

    pattern: Pattern
    format_name: str
    framing: Framing
    limits: Limits
    name: str
    receipts: MessageType
    """The front end's class of receipts."""
    entropy: Callable[[int], bytes]
    """Returns that many random bytes."""
    wall: float = 0.0
    """What to add to ``now`` to get seconds since the epoch."""
    secrets: Lookup | None = None
    """The secrets of peers, by their names; None: no secret is needed."""
    identifies: bool = False
    """Does a secret belong to one peer alone? Then it proves that peer's name."""
    secure: bool = False
    """Is there TLS below? Then each link waits for `Connection.secured`."""
    asks_first: bool = False
    """Does the application decide on each connection (``accept=``)?"""
    counters: Counters = field(default_factory=Counters)
