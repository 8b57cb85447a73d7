"""What all sessions and links of one endpoint share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from linkbox.core.effects import Effects
from linkbox.core.mailbox import Mailbox
from linkbox.core.outgoing import MessageType
from linkbox.core.patterns import Pattern
from linkbox.core.paused_links import PausedLinks
from linkbox.core.wire.authentication import Lookup
from linkbox.core.wire.framings import Framing
from linkbox.limits import Limits

ACK_DELAY = 0.005
"""Seconds that an acknowledgement may wait for a write to go with."""
SLOW_ACK_DELAY = 0.5
"""The same where no receipt waits for it: a request is acknowledged by its response."""


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


class Context:
    """The settings, the mailbox and the effects of one endpoint."""

    __slots__ = (
        "counters",
        "effects",
        "endpoint",
        "incarnation",
        "is_client",
        "is_plain",
        "is_stopping",
        "knows_since",
        "limits",
        "mailbox",
        "paused_links",
        "pattern",
        "settings",
    )

    def __init__(self, settings: Settings, mailbox: Mailbox, is_client: bool) -> None:
        self.settings = settings
        self.pattern = settings.pattern
        self.limits = settings.limits
        self.counters = settings.counters
        self.mailbox = mailbox
        self.is_client = is_client
        self.endpoint: object = None
        """What this core belongs to, see `Channel.endpoint`."""
        self.is_plain = not settings.framing.linked
        self.is_stopping = False
        self.incarnation = settings.entropy(16).hex()
        """See generation.py."""
        self.knows_since = 0.0
        """Server: see generation.py."""
        delay = SLOW_ACK_DELAY if settings.pattern.slow_ack else ACK_DELAY
        self.effects = Effects(delay, settings.wall)
        self.paused_links = PausedLinks(mailbox, self.effects) if self.is_plain else None

    def wall_time(self, now: float) -> float:
        """Seconds since the epoch."""
        return now + self.settings.wall
