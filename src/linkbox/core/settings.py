"""What a hub is made with, what it counts, and what it wants logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from linkbox.core.auth import Lookup
from linkbox.core.framings import Framing
from linkbox.core.patterns import Pattern
from linkbox.core.session import Session
from linkbox.core.units import Delivery
from linkbox.events import EventKind, Peer
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

    def add(self, session: Session) -> None:
        """Keep what a session that is over has counted."""
        self.messages_sent += session.messages_sent
        self.messages_received += session.messages_received
        self.bytes_sent += session.bytes_sent
        self.bytes_received += session.bytes_received


@dataclass(slots=True)
class Settings:
    """What an endpoint was made with, as far as the core cares."""

    pattern: Pattern
    format_name: str
    framing: Framing
    limits: Limits
    name: str
    receipts: type[Delivery]
    """The front end's class of receipts."""
    entropy: Callable[[int], bytes]
    """That many random bytes."""
    wall: float = 0.0
    """What to add to ``now`` to get seconds since the epoch."""
    secrets: Lookup | None = None
    """The secrets of peers, by their names; None: nobody has to know one."""
    identifies: bool = False
    """Is a secret one peer's alone? Then who knows it is who it says it is."""
    secure: bool = False
    """Is there TLS beneath? Then each link waits for `Link.secured`."""
    asks_first: bool = False
    """Does the application decide on each newcomer (``accept=``)?"""
    join: Callable[[list[Any]], Any] = lambda messages: messages[0]
    """How several messages of an ask become one value."""
    counters: Counters = field(default_factory=Counters)


@dataclass(slots=True)
class Note:
    """One line for the log."""

    level: str
    text: str


Notice = tuple[EventKind, Peer | None, Exception | None, Any, int, float]
"""An event to come: kind, peer, error, receipt, how many of them, when."""
